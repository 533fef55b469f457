package trust

import (
	"fmt"
	"strings"
	"testing"
)

// A text of some kilobytes must not become gigabytes when its aliases are
// followed, and whatever else is YAML must pass.
func TestYAMLThatIsSmallAndSaysMuch(t *testing.T) {
	aliases := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("*a,", n), ",") + "]\n" }
	tower := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 12; i++ {
		tower += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	for _, c := range []struct {
		name, text string
		refused    bool
	}{
		{"one long value many times", "a: &a " + strings.Repeat("x", 30_000) + "\nb: " + aliases(10_000), true},
		{"as a key", "a: &a " + strings.Repeat("x", 30_000) + "\nb:\n" + strings.Repeat("- *a : 1\n", 5_000), true},
		{"ten of ten of ten", tower, true},
		{"a value that holds itself", "a: &a [*a]\n", true},
		{"merges", "a: &a {x: " + strings.Repeat("x", 30_000) + "}\nb: [" + strings.TrimSuffix(strings.Repeat("{<<: *a},", 5_000), ",") + "]\n", true},
		{"longer than is read", strings.Repeat("#\n", maxYAML), true},
		{"a few aliases", "a: &a /var/lib/etcd\nb: " + aliases(20), false},
		{"a star that is none", "a: '*'\nb: [\"*.example.com\"]\n", false},
		{"no YAML", "a: [*", false},
		{"nothing", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := YAML([]byte(c.text)); (err != nil) != c.refused {
				t.Errorf("%v", err)
			}
		})
	}
}
