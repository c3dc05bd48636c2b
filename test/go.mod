module github.com/comet-push/comet/test

go 1.26.0

replace (
	github.com/comet-push/comet => ../
	github.com/comet-push/comet/gen => ../gen
)
