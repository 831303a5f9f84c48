//go:build !race

package queue

// raceDetector makes tests smaller, as all takes longer with it.
const raceDetector = false
