// Package gen holds what is generated from the contracts under proto: the Go
// types, clients and servers in its subpackages, and the OpenAPI document of
// the REST doors. Only this file is written by hand; make generate writes the
// others.
package gen

import _ "embed"

// OpenAPI is the OpenAPI 2.0 document of the REST doors.
//
//go:embed openapi/comet.swagger.json
var OpenAPI []byte
