package bayeux_test

import (
	"fmt"

	"github.com/comet-push/comet/bayeux"
)

func ExampleDecode() {
	body := []byte(`[{"channel":"/chat/1","id":"7","clientId":"c","data":{"n":9007199254740993}},{"channel":7,"id":"8"}]`)
	messages, err := bayeux.Decode(body, bayeux.DefaultLimits())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range messages {
		if m.Problem == nil {
			fmt.Printf("publish %s to %s\n", m.Data, m.Channel)
		}
		reply := m.Reply(m.Problem)
		fmt.Printf("%s\n", reply.AppendJSON(nil))
	}
	// Output:
	// publish {"n":9007199254740993} to /chat/1
	// {"channel":"/chat/1","id":"7","successful":true}
	// {"id":"8","successful":false,"error":"405::channel_invalid"}
}

func ExampleAppendEvent() {
	fmt.Printf("%s\n", bayeux.AppendEvent(nil, "/ticker/ACME", []byte(`{"price":12}`), nil, nil))
	// Output:
	// {"channel":"/ticker/ACME","data":{"price":12}}
}

func ExampleTree() {
	var subscribers bayeux.Tree[string]
	subscribers.Add("/chat/1", "ann")
	subscribers.Add("/chat/*", "bob")
	subscribers.Add("/**", "log")
	subscribers.Match("/chat/1", func(who string) { fmt.Println(who) })
	// Output:
	// ann
	// bob
	// log
}
