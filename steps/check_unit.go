package steps

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcd-rewind/trust"
	"etcd-rewind/unit"
)

// says where the data directory is named: "ETCD_DATA_DIR /var/lib/etcd
// (/etc/etcd.env:2), started by etcd.service".
func (e unitEtcd) says() string {
	say := "the default data directory"
	if s, ok := e.Get(unit.DataDir); ok {
		say = fmt.Sprintf("%s %s (%s)", s.As, trust.Text(s.Value), s.Place)
	}
	if e.DataDir.Path != e.DataDir.Flag {
		say += " → " + e.DataDir.Path
	}
	if c := e.Container; c != nil {
		return say + ", in a container that " + e.unit.Name + " runs by " + c.Engine
	}
	return say + ", started by " + e.unit.Name
}

// unitSettings: etcd will start with what the files say, as far as that can be
// known before it does.
func (k *checks) unitSettings() Verdict {
	e, is := k.f.Etcd.unit()
	if !is {
		return none
	}
	const reload = "systemctl daemon-reload, then check again"
	if len(e.Twice) > 0 && !before34(k.f.EtcdVersion) {
		return wrong("remove one of the two", "the same setting is given twice, by %s: etcd 3.4 and later doesn't start with both", e.Twice[0])
	}
	if e.unit.NeedReload {
		return wrong(reload, "the files of %s were changed after systemd read them: it would start etcd with the old settings", e.unit.Name)
	}
	if says := e.Service.Differs(e.unit.ExecStart); e.unit.ExecStart != "" && says != "" {
		return wrong(reload, "%s", says)
	}
	var files []string
	for _, f := range e.Service.Files {
		files = append(files, f.Path)
	}
	if e.ConfigFile != "" {
		return ok("%s alone, named by %s", e.ConfigFile, e.unit.Name)
	}
	return ok("%s", trust.Text(strings.Join(files, ", ")))
}

// before34 says of an etcd's version that it is known, and older than 3.4.
func before34(version string) bool {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	m, errMajor := strconv.Atoi(major)
	n, errMinor := strconv.Atoi(minor)
	return errMajor == nil && errMinor == nil && (m < 3 || m == 3 && n < 4)
}

// opens is how much of its database an etcd opens in a second at least: fifty
// megabytes are a slow disk's. (2 GB took 1.3 s where they were in memory.)
const opens = 50 << 20

// elects is how long several members take at most, once a quorum of them has opened
// its data: one that has begun to listen and doesn't serve yet delays another by 7 s
// (InitialCheck, etcdserver/corrupt.go), and an election takes up to two of kubespray's
// timeouts of 5 s.
const elects = 17 * time.Second

// startNeeds is how long the first member that starts may take until it serves: of
// several there has to be a quorum, and they start one after the other. Their data is
// staged by then: that is done by all at once, and before any etcd stops.
func (k *checks) startNeeds() time.Duration {
	opened := time.Duration(float64(max(k.info.Size, 0)) / opens * float64(time.Second))
	if n := k.size(); n > 1 {
		return time.Duration(n/2+1)*opened + elects
	}
	return opened
}

// size is how many members the restored cluster has.
func (k *checks) size() int {
	if k.c.Fleet == nil {
		return 1
	}
	return len(k.c.Fleet.Members)
}

// unitStart: systemd kills a service of Type=notify that hasn't said that it
// serves, and starts it over; etcd says so when it has opened its data and, of
// several members, when there is a quorum. kube-apiserver's isn't looked at: it is
// started when etcd serves, as at each boot, and hardly takes longer with more data.
func (k *checks) unitStart() Verdict {
	e, is := k.f.Etcd.unit()
	if !is {
		return none
	}
	u := e.unit
	switch {
	case u.Type != "notify" && u.Type != "notify-reload":
		return ok("%s counts as started at once (Type=%s)", u.Name, trust.Text(u.Type))
	case u.TimeoutStart <= 0:
		return ok("%s has no limit to start (TimeoutStartSec)", u.Name)
	}
	size, what := max(k.info.Size, 0), "an etcd"
	if n := k.size(); n > 1 {
		what = fmt.Sprintf("an etcd that waits for %d of %d members", n/2+1, n)
	}
	if k.startNeeds() > u.TimeoutStart {
		then := "it would be killed and started over"
		switch {
		case u.Restart == "no" || u.Restart == "on-success" || u.Restart == "on-abort":
			then = "it would be killed and not started again (Restart=" + u.Restart + ")"
		case u.StartBurst > 0 && time.Duration(u.StartBurst)*(u.TimeoutStart+u.RestartWait) < u.StartInterval:
			then = fmt.Sprintf("it would be killed and started over, %d times in %s (StartLimitBurst), and then no more", u.StartBurst, u.StartInterval)
		}
		return warn(fmt.Sprintf("systemctl edit %s, with TimeoutStartSec=infinity below [Service]", trust.Quote(u.Name)),
			"systemd gives %s %s to start (TimeoutStartSec), and %s with %s of data may need longer: %s", u.Name, u.TimeoutStart, what, Bytes(size), then)
	}
	return ok("%s has %s for %s of data", u.Name, u.TimeoutStart, Bytes(size))
}

// unitOthers: a service that the run has stopped stays stopped, and one that is
// stopped takes nothing else with it.
func (k *checks) unitOthers() Verdict {
	all := k.f.units()
	if len(all) == 0 {
		return none
	}
	var names, stopped []string
	for _, u := range all {
		names = append(names, u.Name)
	}
	var warning Verdict
	for _, u := range all {
		others := func(names []string) string { return trust.Text(trust.Clip(strings.Join(names, " "), 300)) }
		switch {
		case !u.CanStop || !u.CanStart:
			return bad("remove RefuseManualStart= and RefuseManualStop= from the unit, then systemctl daemon-reload", "systemd refuses to stop or start %s", u.Name)
		case acts(u.SuccessAction):
			return wrong("remove SuccessAction= from the unit, then systemctl daemon-reload", "when %s is stopped, systemd does this to the whole machine: %s (SuccessAction=)", u.Name, trust.Text(u.SuccessAction))
		case len(u.Up(u.TriggeredBy)) > 0:
			up := u.Up(u.TriggeredBy)
			return wrong("stop it until the restore is done: systemctl stop "+quoted(up), "%s starts %s again while its data is replaced", others(up), u.Name)
		case len(u.Up(u.UpheldBy)) > 0:
			up := u.Up(u.UpheldBy)
			return wrong("stop it until the restore is done: systemctl stop "+quoted(up), "%s has %s started whenever it isn't running (Upholds=)", others(up), u.Name)
		}
		if warning.Level != "" {
			continue
		}
		up := slices.DeleteFunc(u.Up(u.Dependents), func(name string) bool { return slices.Contains(names, name) })
		switch {
		case acts(u.FailureAction):
			warning = warn("remove FailureAction= from the unit until the restore is done", "when %s fails, systemd does this to the whole machine: %s (FailureAction=)", u.Name, trust.Text(u.FailureAction))
		case acts(u.StartLimitAction):
			warning = warn("remove StartLimitAction= from the unit until the restore is done", "when %s ends and is started again too often, systemd does this to the whole machine: %s (StartLimitAction=)", u.Name, trust.Text(u.StartLimitAction))
		case len(u.OnSuccess) > 0:
			warning = warn("check what it does, and mask it until the restore is done", "when %s is stopped, systemd starts %s (OnSuccess=)", u.Name, others(u.OnSuccess))
		case len(up) > 0:
			warning = warn("start it again afterwards: systemctl start "+quoted(up), "systemd stops %s with %s, and doesn't start it again (Requires=, BindsTo=, PartOf=)", others(up), u.Name)
		default:
			stopped = append(stopped, u.Name)
		}
	}
	if warning.Level != "" {
		return warning
	}
	return ok("nothing starts %s by itself, and nothing is stopped with it", trust.Text(strings.Join(stopped, ", ")))
}

// acts says of an action on the whole machine whether it is one.
func acts(action string) bool { return action != "" && action != "none" }

func quoted(names []string) string {
	var all []string
	for _, n := range names {
		all = append(all, trust.Shell("%s", n))
	}
	return strings.Join(all, " ")
}

// managedFile: what writes etcd's settings from elsewhere will write them again.
func (k *checks) managedFile() Verdict {
	why := k.f.SwapBecause()
	switch {
	case why == "":
		return none
	case k.c.Swap:
		return ok("%s: the data keeps its path", trust.Text(why))
	}
	return warn("leave out --data-dir, or override, and change the path in that program's configuration", "%s: a new path of the data would be reverted, and etcd would start on the old data", trust.Text(why))
}
