package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"testing"
)

// startBare starts a child that does nothing but write every message to all of
// its connections, each by one write(2) of so many bytes: what a delivery costs
// at least.
func startBare(b *testing.B, bytes int) *peer {
	b.Helper()
	pid, addr, in := startChild(b, "bare")
	return &peer{
		name: "a bare loop", pid: pid, addr: addr, ready: bareReady,
		ask: func(string) string { return "\n" },
		publish: func(_ *reader, data []byte) error {
			message := make([]byte, 4, 4+max(bytes, len(data)))
			binary.BigEndian.PutUint32(message, uint32(cap(message)-4))
			message = append(message, data...)
			_, err := in.Write(message[:cap(message)])
			return err
		},
	}
}

var bareReady = []byte("ready\n")

// bare is the child's side.
type bare struct {
	listener int

	mu  sync.Mutex
	fds []int
}

// serveBare writes what it reads, messages behind their lengths.
func serveBare(in io.Reader, out io.Writer) error {
	s, err := listenBare(out)
	if err != nil {
		return err
	}
	go s.accept()
	for {
		var length uint32
		if err := binary.Read(in, binary.BigEndian, &length); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		message := make([]byte, length)
		if _, err := io.ReadFull(in, message); err != nil {
			return err
		}
		s.write(message)
	}
}

func listenBare(out io.Writer) (*bare, error) {
	const backlog = 4096
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, backlog))
	if err != nil {
		return nil, err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	self, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		return nil, fmt.Errorf("listening on %T", name)
	}
	_, err = fmt.Fprintf(out, "127.0.0.1:%d\n", self.Port)
	return &bare{listener: fd}, err
}

// accept takes connections and answers their first byte.
func (s *bare) accept() {
	for {
		fd, _, err := syscall.Accept4(s.listener, syscall.SOCK_CLOEXEC)
		if err != nil {
			continue
		}
		err = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		if err == nil {
			_, err = syscall.Read(fd, make([]byte, 1))
		}
		s.mu.Lock()
		s.fds = append(s.fds, fd)
		s.mu.Unlock()
		if err == nil {
			_, err = syscall.Write(fd, bareReady)
		}
		if err != nil {
			panic(err) // nobody measures what does not work
		}
	}
}

func (s *bare) write(message []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range s.fds {
		if _, err := syscall.Write(fd, message); err != nil {
			panic(err) // nobody measures what does not work
		}
	}
}
