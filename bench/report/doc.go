// Package report turns samples into rows, and rows into tables, files, plots and comparisons. It measures
// nothing, and reads no clock.
//
//		rows := results.Rows()
//		err := report.Table(os.Stdout, rows)
//
//	 1. A row's rate is the median of its rounds; its latencies are over all operations of all rounds; what it
//	    costs is the sum of the rounds divided by their operations.
//	 2. A system that failed in a round has a row that says so, and is in no file that others read.
package report
