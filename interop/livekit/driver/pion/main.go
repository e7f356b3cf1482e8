// Pion, by LiveKit's Go SDK, against this server: go run . SCENARIO URL KEY SECRET
package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

var scenario, url, key, secret = os.Args[1], strings.TrimRight(os.Args[2], "/"), os.Args[3], os.Args[4]

func say(format string, a ...any) { fmt.Printf(format+"\n", a...) }

func fail(format string, a ...any) {
	say("failed: "+format, a...)
	os.Exit(1)
}

func until(what string, seconds int, test func() bool) {
	for end := time.Now().Add(time.Duration(seconds) * time.Second); !test(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			fail("never: %s", what)
		}
	}
	say("holds: %s", what)
}

// A person counts the packets that arrive, and those that are missing between them.
type person struct {
	room              *lksdk.Room
	received, missing atomic.Int64
	tracks            atomic.Int64
	data              sync.Map
}

func enter(room, identity string) *person {
	p := &person{}
	callback := lksdk.NewRoomCallback()
	callback.OnTrackSubscribed = func(track *webrtc.TrackRemote, _ *lksdk.RemoteTrackPublication, _ *lksdk.RemoteParticipant) {
		p.tracks.Add(1)
		go p.count(track)
	}
	callback.OnDataPacket = func(data lksdk.DataPacket, params lksdk.DataReceiveParams) {
		if packet, ok := data.(*lksdk.UserDataPacket); ok {
			p.data.Store(packet.Topic, string(packet.Payload)+" of "+params.SenderIdentity)
		}
	}
	info := lksdk.ConnectInfo{APIKey: key, APISecret: secret, RoomName: room, ParticipantIdentity: identity}
	// Forty clients start in this one process.
	connected, err := lksdk.ConnectToRoom(url, info, callback, lksdk.WithConnectTimeout(30*time.Second))
	if err != nil {
		fail("%s: %v", identity, err)
	}
	p.room = connected
	return p
}

func (p *person) count(track *webrtc.TrackRemote) {
	var last uint16
	for first := true; ; first = false {
		var packet *rtp.Packet
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		if step := int16(packet.SequenceNumber - last); !first && step > 1 {
			p.missing.Add(int64(step) - 1)
		}
		last = packet.SequenceNumber
		p.received.Add(1)
	}
}

// Publishes packets of the sizes of a voice: what is in them matters to nobody on the way.
func (p *person) publish(name string) {
	track, err := lksdk.NewLocalSampleTrack(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2})
	if err != nil {
		fail("%v", err)
	}
	if _, err = p.room.LocalParticipant.PublishTrack(track, &lksdk.TrackPublicationOptions{Name: name}); err != nil {
		fail("%v", err)
	}
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			_ = track.WriteSample(media.Sample{Data: make([]byte, 120), Duration: 20 * time.Millisecond}, nil)
		}
	}()
}

func main() {
	room := fmt.Sprintf("pion-%s-%d", scenario, time.Now().UnixNano()%1_000_000)
	switch scenario {
	case "meet":
		ada, grace := enter(room, "ada"), enter(room, "grace")
		ada.publish("voice")
		grace.publish("voice")
		until("both hear each other", 20, func() bool { return ada.received.Load() > 100 && grace.received.Load() > 100 })
		packet := &lksdk.UserDataPacket{Payload: []byte("hello"), Topic: "greeting"}
		if err := ada.room.LocalParticipant.PublishDataPacket(packet, lksdk.WithDataPublishReliable(true)); err != nil {
			fail("%v", err)
		}
		until("data arrives", 10, func() bool {
			got, _ := grace.data.Load("greeting")
			return got == "hello of ada"
		})
		ada.room.Simulate(lksdk.SimulateSignalReconnect)
		before := grace.received.Load()
		until("after a lost signalling connection", 20, func() bool { return grace.received.Load() > before+100 })
		ada.room.Disconnect()
		grace.room.Disconnect()
	case "load":
		// As `lk load-test` does: a few publishers, many subscribers, for a while.
		const publishers, subscribers, seconds = 4, 40, 8
		var all []*person
		for i := range publishers {
			publisher := enter(room, fmt.Sprintf("publisher-%d", i))
			publisher.publish("voice")
			all = append(all, publisher)
		}
		var wait sync.WaitGroup
		entered := make([]*person, subscribers)
		for i := range subscribers {
			// At the pace of `lk load-test`.
			time.Sleep(150 * time.Millisecond)
			wait.Add(1)
			go func() {
				defer wait.Done()
				entered[i] = enter(room, fmt.Sprintf("subscriber-%d", i))
			}()
		}
		wait.Wait()
		until("every subscriber has every track", 60, func() bool {
			for _, one := range entered {
				if one.tracks.Load() < publishers {
					return false
				}
			}
			return true
		})
		time.Sleep(seconds * time.Second)
		var received, missing, least int64 = 0, 0, 1 << 60
		for _, one := range entered {
			received += one.received.Load()
			missing += one.missing.Load()
			least = min(least, one.received.Load())
		}
		say("%d subscribers x %d tracks: %d packets, %d missing, %d at the least", subscribers, publishers, received, missing, least)
		// 50 packets per second and track; a loaded machine sends fewer.
		if missing*1000 > received || least < publishers*seconds*25 {
			fail("packets did not come")
		}
		for _, one := range append(all, entered...) {
			one.room.Disconnect()
		}
	default:
		fail("no such scenario")
	}
	say("seen: Go server-sdk-go %s: %s", lksdk.Version, scenario)
}
