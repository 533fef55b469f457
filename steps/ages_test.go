package steps

import (
	"testing"
	"time"
)

func TestAgesSayTheUnitThatMatters(t *testing.T) {
	now := time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)
	for ago, want := range map[time.Duration]string{
		-time.Hour:                     "in the future",
		-time.Second:                   "0 s ago",
		40 * time.Second:               "40 s ago",
		90 * time.Second:               "1 min ago",
		119 * time.Minute:              "119 min ago",
		5*time.Hour + 59*time.Minute:   "5 h ago",
		47*time.Hour + 59*time.Minute:  "47 h ago",
		48 * time.Hour:                 "2 days ago",
		5*24*time.Hour + 23*time.Hour:  "5 days ago",
		400*24*time.Hour + 1*time.Hour: "400 days ago",
	} {
		if got := Ago(now.Add(-ago), now); got != want {
			t.Errorf("%s before: %q, want %q", ago, got, want)
		}
	}
	if got := Ago(time.Time{}, now); got != "at an unknown time" {
		t.Errorf("an unknown time: %q", got)
	}
}

func TestTimesNameTheirZone(t *testing.T) {
	was := here
	t.Cleanup(func() { here = was })
	here = func() *time.Location { return time.FixedZone("CET", 3600) }
	at := time.Date(2026, 11, 25, 23, 30, 5, 0, time.UTC)
	if got := Moment(at); got != "2026-11-26 00:30:05 CET" {
		t.Error(got)
	}
	if got := Clock(at); got != "00:30:05 CET" {
		t.Error(got)
	}
}
