package bayeux

import "testing"

func TestSmoke(t *testing.T) {
	in := `[{"channel":"/meta/connect","id":7,"x":1,"clientId":"abc","advice":{"timeout":0}, "y" : [1,2]},{"channel":3},{"channel":"/a","data":null,"ext":{"ack":1}}]`
	ms, err := Decode([]byte(in), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(string(AppendBatch(nil, ms)), ms[1].Problem)
}
