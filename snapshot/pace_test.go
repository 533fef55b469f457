package snapshot

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestEtcdIsReadNoFasterThanAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pace = 1_000_000 // bytes per second
		blob := bytes.Repeat([]byte{1}, 32<<10)
		send := func(w interface{ Write([]byte) (int, error) }, n int) time.Duration {
			begun := time.Now()
			for range n {
				if got, err := w.Write(blob); got != len(blob) || err != nil {
					t.Fatal(got, err)
				}
			}
			return time.Since(begun)
		}
		var got bytes.Buffer
		w := paced(t.Context(), &got, pace)
		took := send(w, 100)
		if want := time.Duration(100*len(blob)-paceBurst) * time.Second / pace; took < want || took > want+time.Millisecond {
			t.Errorf("%d bytes took %s, not %s", got.Len(), took, want)
		}
		if got.Len() != 100*len(blob) {
			t.Errorf("%d bytes arrived", got.Len())
		}
		// A delay isn't made up for: that would be at full speed.
		time.Sleep(time.Minute)
		if took := send(w, 10); took < time.Duration(10*len(blob)-paceBurst)*time.Second/pace {
			t.Errorf("after a delay it took %s", took)
		}
		if took := send(paced(t.Context(), &got, 0), 100); took != 0 {
			t.Errorf("without a pace it took %s", took)
		}
	})
}

func TestAPacedSaveEndsAtOnceWhenItIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begun := time.Now()
		n, err := paced(ctx, new(bytes.Buffer), 1000).Write(make([]byte, 1<<20))
		if n != 0 || !errors.Is(err, context.Canceled) || time.Since(begun) != time.Second {
			t.Errorf("%d bytes, %v after %s", n, err, time.Since(begun))
		}
	})
}
