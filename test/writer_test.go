package test

import (
	"strings"
	"sync"
)

// lockedWriter collects what a process writes while a test reads it.
type lockedWriter struct {
	mu sync.Mutex
	w  *strings.Builder
}

// Write implements [io.Writer].
func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// String returns all that was written.
func (l *lockedWriter) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.String()
}
