// Package lint holds the house rules that a test can check: who may import whom, and what may not be in
// the code at all. Its tests say what to do instead.
package lint
