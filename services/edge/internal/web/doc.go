// Package web is what the doors for browsers share: which pages may use them,
// and what a refused request is told.
package web
