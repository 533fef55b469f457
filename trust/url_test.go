package trust

import "testing"

func TestAURLToBeDialledHasAHost(t *testing.T) {
	for _, good := range []string{"https://10.0.0.1:2380", "http://cp1", "https://[fd00::1]:2380", "https://cp1.example.com:6443/readyz"} {
		if _, err := URL(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "cp1:2380", "unix:///run/x", "https://", "https://-oProxyCommand=id:1", "https://u:p@h:1", "https://h:99999", "https://h/\u202e", "https://a b:1", "file:///etc"} {
		if _, err := URL(bad); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}
