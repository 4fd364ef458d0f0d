// Package e2e tests the programs as a user meets them: real processes, real files, loopback.
package e2e
