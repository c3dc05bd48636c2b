package bayeux

import (
	"bytes"
	"net/url"
)

// DecodePost decodes the body of a POST whatever its content type: JSON if it
// begins with [ or {, else a form whose message parameters hold the JSON. The
// error is a *DecodeError.
func DecodePost(body []byte, l Limits) ([]Message, error) {
	switch start := bytes.TrimLeft(body, " \t\r\n"); {
	case len(start) == 0 || start[0] == '[' || start[0] == '{':
		return Decode(body, l)
	case len(body) > l.withDefaults().Bytes:
		return Decode(body, l)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || !form.Has("message") {
		return nil, &DecodeError{ReasonJSONInvalid, 0, "neither JSON nor a form with a message parameter"}
	}
	return DecodeParams(form["message"], l)
}

// DecodeParams decodes the message parameters of a form or a URL, each an array
// or a bare message, as one batch. Limits hold for all of them together. The
// error is a *DecodeError; its offset is within the parameter at fault.
func DecodeParams(params []string, l Limits) ([]Message, error) {
	l = l.withDefaults()
	var all []Message
	for _, p := range params {
		messages, err := decode(all, []byte(p), &l)
		if err != nil {
			return nil, err
		}
		all = messages
		l.Bytes -= len(p)
	}
	return all, nil
}
