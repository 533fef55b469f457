package trust

import (
	"strings"
	"testing"
)

func TestACommandHasEachValueAsAWordAndAComment(t *testing.T) {
	have := Shell("mv -nT %s %s; n=%d %s", "a b", "it's", 3, Raw("| cat")) + " " + Comment("cp1\nid; \x1b[31m"+strings.Repeat("x", 300))
	if want := `mv -nT 'a b' 'it'\''s'; n=3 | cat # cp1 id; xxx`; !strings.HasPrefix(have, want) || len(have) > 300 || strings.Contains(have, "\n") {
		t.Errorf("%q", have)
	}
}

func TestANameIsOneOfANodeOrAMember(t *testing.T) {
	for _, good := range []string{"cp1", "ip-10-0-0-1.eu-west-1.compute.internal", "etcd_2", "узел1"} {
		if err := Name(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "-rf", "a b", "a\nb", "a=b", "a,b", "a/b", "a\u202eb", "$(id)", strings.Repeat("a", 300)} {
		if Name(bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
}
