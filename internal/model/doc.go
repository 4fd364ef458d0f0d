// Package model is an explicit-state model of the data-plane rules.
package model
