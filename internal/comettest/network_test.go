package comettest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pair connects a to b.
func pair(t *testing.T, n *Network) (a, b net.Conn) {
	t.Helper()
	l, err := n.Listen("b:1")
	if err != nil {
		t.Fatal(err)
	}
	a, err = n.Dial("a")(t.Context(), "b:1")
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestNetworkPartitionHoldsAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		a, b := pair(t, n)
		n.Delay("a", "b", 10*time.Millisecond)
		n.Partition("a", "b")
		begin := time.Now()
		time.AfterFunc(time.Minute, func() { n.Heal("b", "a") })
		if _, err := io.WriteString(a, "hello"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(b, got); err != nil || string(got) != "hello" || time.Since(begin) != time.Minute {
			t.Errorf("%q, %v after %v", got, err, time.Since(begin))
		}
		begin = time.Now()
		_, _ = io.WriteString(b, "x")
		if _, err := io.ReadFull(a, got[:1]); err != nil || time.Since(begin) != 10*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if _, err := b.Read(got); !errors.Is(err, io.EOF) {
			t.Errorf("the other end reads %v", err)
		}
		if _, err := a.Read(got); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a closed end reads %v", err)
		}
	})
}

func TestNetworkRefusesAndResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		if _, err := n.Dial("a")(t.Context(), "b:2"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody there: %v", err)
		}
		a, b := pair(t, n)
		if _, err := n.Listen("b:1"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a busy door: %v", err)
		}
		n.Partition("a", "b")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.Dial("a")(ctx, "b:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("into a partition: %v", err)
		}
		if err := b.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a deadline: %v", err)
		}
		n.Crash("b")
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after a crash: %v", err)
		}
		n.Heal("a", "b")
		if _, err := n.Dial("a")(t.Context(), "b:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("after a crash: %v", err)
		}
	})
}

func TestNetworkVanish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		a, b := pair(t, n)
		n.Vanish("a")
		if _, err := a.Write([]byte("x")); err == nil {
			t.Error("wrote from where nothing is")
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := b.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || n.Conns("a", "b") != 1 {
			t.Errorf("the other end was told: %v", err)
		}
		if err := b.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		begin := time.Now()
		if k, err := b.Write(make([]byte, 2*window)); k != 2*window || err != nil {
			t.Errorf("wrote %d to where nothing is: %v", k, err)
		}
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) || time.Since(begin) != userTimeout {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if n.Conns("a", "b") != 0 {
			t.Error("a connection is left")
		}
		if _, err := n.Dial("a")(t.Context(), "b:1"); err != nil {
			t.Error(err)
		}
	})
}

func TestNetworkPushesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, NewNetwork())
		done := make(chan int)
		go func() {
			k, _ := a.Write(make([]byte, window+1))
			done <- k
		}()
		synctest.Wait()
		select {
		case <-done:
			t.Error("a full window took more")
		default:
		}
		if _, err := b.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if k := <-done; k != window+1 {
			t.Errorf("wrote %d", k)
		}
	})
}
