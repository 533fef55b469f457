package trust

// SSH has the options with which the ssh of the user who runs this program is called,
// and more: with that user's configuration, keys, agent and known hosts, but so that
// it asks nobody for anything, and gives up on a host that is down.
//
// A connection that is shared (ControlPath) is used where there is one, but none is
// made: ssh ends where it can't write the socket, as in the backup's service, and
// whoever else came to share ours would end with it.
func SSH(more ...string) []string {
	return append([]string{"-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ControlMaster=no"}, more...)
}
