// Package durable seals small records (a fence, a config, an accepted recovery) and keeps them in
// files that a crash cannot half change.
//
//	 0        8          12          16       20       24
//	+--------+----------+-----------+--------+--------+---------+
//	| magic  | version  | payload   | zero   | crc32c | payload |
//	| 8 B    | u32      | length u32| u32    | u32    |         |
//	+--------+----------+-----------+--------+--------+---------+
//
// Everything is little endian; the checksum covers all but itself. Its place never changes, so that
// a later version can be told from damage.
//
//	err := durable.Save(fsys, dir+"/fence", magic, 1, payload)
//	payload, version, err := durable.Load(fsys, dir+"/fence", magic, 1)
package durable
