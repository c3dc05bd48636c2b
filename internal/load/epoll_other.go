//go:build !linux

package load

// newWorker returns a worker for some clients.
func newWorker(t target, clients []*client, sum *tally) (worker, error) {
	return newRoutines(t, clients, sum), nil
}
