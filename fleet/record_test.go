package fleet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The hosts of a record are dialled when a run is undone or resumed, weeks
// later perhaps: they are looked at again.
func TestARecordNamesHostsAndNothingElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), theRun)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	record := func(nodes string) string {
		return `{"run":"` + theRun + `","me":"cp1","paths":{},"members":[{"Name":"cp1","PeerURLs":["https://10.0.0.1:2380"]}],"before":3,"nodes":` + nodes + `}`
	}
	for text, says := range map[string]string{
		record(`[{"name":"cp1","try":["cp1","10.0.0.1"]},{"name":"cp2","try":["root@cp2.example.com"]}]`): "",
		record(`[{"name":"cp1","try":["-oProxyCommand=id"]}]`):                                            "neither a DNS name nor an IP address",
		record(`[{"name":"cp1\n","try":[]}]`):                                                             "is not the name of a node",
		record(`[null]`):                                                                                  "null where a value is due",
		record(`null`):                                                                                    "is not that of run",
	} {
		if err := os.WriteFile(filepath.Join(dir, recordName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadRecord(dir)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
