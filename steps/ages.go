package steps

import (
	"fmt"
	"time"
)

// Age says how long before now t is, in the largest unit that is exact enough:
// "40 s", "12 min" below 2 hours, "17 h" below 48, then "5 days". It never says
// more than has passed. The zero time is "unknown".
func Age(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return "unknown"
	case d < -time.Minute: // a clock was set
		return "in the future"
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// Ago is Age in a sentence: "17 h ago", "in the future", "at an unknown time".
func Ago(t, now time.Time) string {
	switch age := Age(t, now); {
	case t.IsZero():
		return "at an unknown time"
	case now.Sub(t) < -time.Minute:
		return age
	default:
		return age + " ago"
	}
}

// here is this machine's zone; another in a test.
var here = func() *time.Location { return time.Local }

// Moment writes a time for people: this machine's time, with its zone.
func Moment(t time.Time) string { return t.In(here()).Format("2006-01-02 15:04:05 MST") }

// Clock is Moment without the day, for what happens now.
func Clock(t time.Time) string { return t.In(here()).Format("15:04:05 MST") }
