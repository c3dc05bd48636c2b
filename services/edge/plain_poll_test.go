package edge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/run"
)

func TestPoll(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		for i := range 15 {
			w.broker.publish("/a", fmt.Sprint(i))
			w.broker.publish("/b", fmt.Sprint(i))
		}
		synctest.Wait()
		began := time.Now()
		all := w.get("/channels/a")
		if !strings.HasPrefix(all.messages(), "/a=0 /a=1") || !strings.HasSuffix(all.messages(), "/a=14") || all.cursor() != "15" {
			w.t.Errorf("status %d, %s", all.StatusCode, all.text)
		}
		if got := w.get("/channels/a?since=13").messages(); got != "/a=13 /a=14" {
			w.t.Errorf("got %s", got)
		}
		page := w.get("/channels/a?since=3&limit=2")
		if page.messages() != "/a=3 /a=4" || page.cursor() != "5" {
			w.t.Errorf("got %s", page.text)
		}
		if got := w.get("/channels/a?since=latest"); got.messages() != "" || got.cursor() != "15" {
			w.t.Errorf("got %s", got.text)
		}
		several := w.get("/channels?channel=/a&channel=/b&since=earliest")
		if got := len(strings.Fields(several.messages())); got != 30 || !strings.HasPrefix(several.cursor(), "~") {
			w.t.Errorf("%d messages, cursor %s", got, several.cursor())
		}
		if again := w.get("/channels?channel=/b&channel=/a&since=" + several.cursor()); again.messages() != "" {
			w.t.Errorf("got %s", again.text)
		}
		if got := w.get("/channels/a?since=99"); fmt.Sprint(got.object["resync"]) != "[/a]" || got.cursor() != "15" || got.messages() != "" {
			w.t.Errorf("got %s", got.text)
		}
		if got := w.get("/channels/a?since=99999&since=1"); got.StatusCode != http.StatusBadRequest {
			w.t.Errorf("status %d", got.StatusCode)
		}
		if took := time.Since(began); took > time.Second {
			w.t.Errorf("polls took %v", took)
		}
		w.wantQuiet()
	})
}

func TestPollIsRevalidated(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		w.broker.publish("/a", "1")
		synctest.Wait()
		first := w.get("/channels/a")
		for name, want := range map[string]string{
			"Content-Type": "application/json", "Cache-Control": "public, max-age=1", "Etag": `"1"`,
			"X-Content-Type-Options": "nosniff",
		} {
			if got := first.Header.Get(name); got != want {
				w.t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		for _, known := range []string{`"1"`, `W/"1"`, `"0", "1"`, "*"} {
			if got := w.get("/channels/a", "If-None-Match", known); got.StatusCode != http.StatusNotModified || got.text != "" || got.Header.Get("ETag") != `"1"` {
				w.t.Errorf("%s: status %d, %q", known, got.StatusCode, got.text)
			}
		}
		w.broker.publish("/a", "2")
		synctest.Wait()
		if got := w.get("/channels/a", "If-None-Match", `"1"`); got.StatusCode != http.StatusOK || got.messages() != "/a=1 /a=2" {
			w.t.Errorf("status %d, %s", got.StatusCode, got.text)
		}
		if vary := strings.Join(first.Header.Values("Vary"), ","); !strings.Contains(vary, "Accept") || !strings.Contains(vary, "Origin") {
			w.t.Errorf("Vary %q", vary)
		}
	})
}

func TestLongPoll(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		poll := func(query string) (got, time.Duration) {
			began := time.Now()
			res := w.get("/channels/a?transport=long-poll" + query)
			if cache := res.Header.Get("Cache-Control"); res.StatusCode != http.StatusOK || !strings.Contains(cache, "no-store") {
				w.t.Errorf("status %d, Cache-Control %q", res.StatusCode, cache)
			}
			return res, time.Since(began).Truncate(time.Second)
		}
		if res, held := poll(""); held != 30*time.Second || res.messages() != "" || res.cursor() != "0" {
			w.t.Errorf("held %v: %s", held, res.text)
		}
		if res, held := poll("&wait=7"); held != 7*time.Second || res.text != `{"messages":[],"cursor":"0"}` {
			w.t.Errorf("held %v: %s", held, res.text)
		}
		if _, held := poll("&wait=0"); held != 0 {
			w.t.Errorf("held %v", held)
		}
		time.AfterFunc(3*time.Second, func() { w.broker.publish("/a", "1") })
		if res, held := poll("&wait=10&since=0"); held != 3*time.Second || res.messages() != "/a=1" || res.cursor() != "1" {
			w.t.Errorf("held %v: %s", held, res.text)
		}
		w.broker.publish("/a", "2")
		if res, held := poll("&since=1"); held != 0 || res.messages() != "/a=2" {
			w.t.Errorf("held %v: %s", held, res.text)
		}
		if res, held := poll("&since=77"); held != 0 || fmt.Sprint(res.object["resync"]) != "[/a]" {
			w.t.Errorf("held %v: %s", held, res.text)
		}
		synctest.Wait() // answers are booked behind their writing
		if got := w.value("comet_edge_deliveries_total"); got != 2 {
			w.t.Errorf("counted %v deliveries", got)
		}
		w.wantQuiet()
	})
}

func TestLongPollEndsOnDrain(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		done := make(chan got)
		go func() { done <- w.get("/channels/a?transport=long-poll") }()
		synctest.Wait()
		w.stop(run.ErrDraining)
		res := <-done
		if res.object["end"] != "draining" || res.object["retry"] == nil || res.cursor() != "0" || !res.Close {
			w.t.Errorf("got %s, closed: %v", res.text, res.Close)
		}
		if err := <-w.ended; err != nil {
			w.t.Error(err)
		}
		w.ended <- nil
	})
}

func TestJSONP(t *testing.T) {
	inWorld(t, Config{JSONP: true}, func(w *world) {
		w.broker.publish("/a", `"</script>\u2028`+"\u2028"+`&"`)
		synctest.Wait()
		res := w.get("/channels/a?transport=jsonp&since=earliest&jsonp=app.$take_1")
		want := `/**/app.$take_1({"messages":[{"channel":"/a","position":1,"data":"\u003c/script\u003e\u2028\u2028\u0026"}],"cursor":"1"});`
		if res.text != want {
			w.t.Errorf("got %s, want %s", res.text, want)
		}
		for name, want := range map[string]string{
			"Content-Type": "text/javascript; charset=utf-8", "Content-Disposition": "attachment; filename=f.txt",
			"X-Content-Type-Options": "nosniff",
		} {
			if got := res.Header.Get(name); got != want {
				w.t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if got := w.get("/channels/a?transport=jsonp&wait=0"); got.text != `/**/jsonpcallback({"messages":[],"cursor":"1"});` {
			w.t.Errorf("got %s", got.text)
		}
		if got := w.get("/channels/a?transport=jsonp&wait=0", "Referer", "https://evil.test/x"); got.object["reason"] != "ORIGIN_DENIED" {
			w.t.Errorf("a foreign page got %s", got.text)
		}
	})
	inWorld(t, Config{}, func(w *world) {
		if got := w.get("/channels/a?transport=jsonp"); got.StatusCode != http.StatusForbidden || got.object["reason"] != "TRANSPORT_DISABLED" {
			w.t.Errorf("status %d, %s", got.StatusCode, got.text)
		}
	})
}
