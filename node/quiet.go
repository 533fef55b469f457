package node

import (
	"io"

	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"
)

// The libraries below write to stderr on their own, in the middle of whatever
// is on the screen. All they have to say comes back as an error as well.
// grpclog may only be set before the first use of gRPC, hence init.
func init() {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	klog.SetLogger(klog.Logger{}) // the zero logger drops everything
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
}
