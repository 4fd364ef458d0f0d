// Package qjmv1 is the generated code of the data plane's protocol, committed so that building needs no
// tools. Only internal/wire uses it; see proto/README.md for how it is made.
package qjmv1
