package transport

import (
	"google.golang.org/grpc"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
)

// callerPipe is a stream as the member has it that opened it.
type callerPipe struct {
	call grpc.BidiStreamingClient[brokerv1.ReplicateRequest, brokerv1.ReplicateResponse]
}

func (p callerPipe) send(frames []byte) error {
	return p.call.Send(&brokerv1.ReplicateRequest{Frames: frames})
}

func (p callerPipe) recv() ([]byte, error) {
	batch, err := p.call.Recv()
	return batch.GetFrames(), err
}

// accepterPipe is a stream as the other member has it.
type accepterPipe struct {
	call grpc.BidiStreamingServer[brokerv1.ReplicateRequest, brokerv1.ReplicateResponse]
}

func (p accepterPipe) send(frames []byte) error {
	return p.call.Send(&brokerv1.ReplicateResponse{Frames: frames})
}

func (p accepterPipe) recv() ([]byte, error) {
	batch, err := p.call.Recv()
	return batch.GetFrames(), err
}
