// Package channels is the HTTP door of plain channels: it turns requests into
// readers and publications, and says what each transport's responses look like.
//
//  1. Every request that is refused before its first frame is answered with a
//     problem document (RFC 9457) whose reason is of the catalogue; but a frame
//     gets it as a control object, since its page cannot see a status.
//  2. A path is never cleaned and never redirected: what is no channel is
//     refused.
//  3. A parameter is known, given at most once, and in its range, whatever the
//     transport; one that means nothing to the transport has no effect.
//  4. A request from a web page of an origin that is not allowed reaches no
//     channel, nor does one that a script or frame of such a page made.
//  5. There are no credentials yet, so a bearer token that is given cannot be
//     checked, and is refused rather than ignored. Other schemes of
//     Authorization are a proxy's matter.
//  6. HEAD is answered as GET would begin, at once and without an ETag: nothing
//     is read.
package channels
