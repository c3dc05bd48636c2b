// Package bayeux is Bayeux 1.0, the protocol of CometD and Faye, as Go types:
// it parses, checks and encodes, and knows neither sessions nor transports.
//
// What it promises:
//
//  1. Decode accepts exactly one JSON document: an array of messages or one
//     bare message, in valid UTF-8, within Limits. Everything else is a
//     *DecodeError with a reason; a document is refused whole, never in part.
//  2. A message that is valid JSON but bad Bayeux (a channel that is a number,
//     a subscription that breaks the grammar, a member given twice) does not
//     spoil its neighbours: it is returned with Problem set, which is the error
//     to answer it with.
//  3. Data, Ext, ID, Subscription.Raw and Members are the bytes of the input,
//     unchanged: spaces, key order and digits of numbers survive.
//  4. Encoding depends on nothing but the message: equal messages give equal
//     bytes, and what AppendJSON wrote Decode reads back.
//  5. A channel has one spelling. The characters are CometD's (letters, digits,
//     -_!~()$@ and space #*+.{}); empty segments, a trailing slash (which
//     CometD trims, and its client then waits for events in vain) and a
//     wildcard before the last segment are refused.
//  6. A wildcard matches a channel under /meta/ or /service/ only if it stands
//     itself under /meta/ or /service/: /** reaches neither.
//
// Members that are null count as absent, except data: null is a legal payload.
package bayeux
