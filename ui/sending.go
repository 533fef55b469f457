package ui

type (
	sendProgressMsg struct {
		asked       int
		node        string
		done, total int64
	}
	// sentMsg says that every node has the snapshot, with the same sha256.
	sentMsg struct{ asked int }
)

func (msg sendProgressMsg) Replaces(older any) (yes, further bool) {
	last, ok := older.(sendProgressMsg)
	return ok && msg.asked == last.asked && msg.node == last.node, false
}
