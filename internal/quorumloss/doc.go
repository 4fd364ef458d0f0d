// Package quorumloss decides what is to be done when a majority is lost for good: what the survivors hold,
// which of it is to be kept, which members a journal and the catalog's group go on with, and what may be lost
// by it. It is pure: what the nodes answered goes in, a plan comes out.
//
//	for questions := facts.Questions(); len(questions) > 0; questions = facts.Questions() {
//		… ask the nodes, and put the answers into facts
//	}
//	plan, err := quorumloss.Make(facts, quorumloss.Options{})
//	fmt.Println(plan.Digest) // covers all that the plan rests on
//
// Nobody carries a plan out that was not shown to an operator first: that is what the digest is for. The same
// facts give the same plan, byte by byte.
//
// Invariants, cited by the tests:
//
//	Q1 Never a guess: survivors that diverge, or that cannot be compared, stop the plan, which names them.
//	   So does one that answers, and whose log of the catalog is not known (yet): it may be the newest.
//	Q2 The order of R2 chooses: finalized before in progress, higher ballot, longer.
//	Q3 Whoever opens the journal under the new config finds the chosen copy: each majority of the new members
//	   holds it, so a writer that is faster than the operator cannot choose a shorter one.
//	Q4 The new config outranks every one that anybody has installed, and a lost node may have installed one
//	   more (M9).
//	Q5 A floor that the choice does not contain is named as loss, and lowered by the plan only (R3).
//	Q6 What still has its majority is left alone.
//	Q7 A member whose data is unknown is no member afterwards, and never means "nothing" (N2).
//	Q8 A journal leaves the catalog only where no member answers, and the operator named it. What a member holds
//	   that comes back all the same is not removed.
//	Q9 Whoever is forced out of the catalog's group without being asked is given up by name, so that it finds that
//	   out when it comes back: with the old members it could go on with them, and know nothing of it.
package quorumloss
