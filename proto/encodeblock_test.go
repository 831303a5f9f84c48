package proto

import (
	"bytes"
	"testing"
)

// TestEncoderBlocks has all short texts lie where what Append examines at once comes to its end. To append them octet
// by octet has to make the same of them.
func TestEncoderBlocks(t *testing.T) {
	const length = 5
	texts := []string{""}
	for i := 0; len(texts[i]) < length; i++ {
		for _, c := range "\r\n.x" {
			texts = append(texts, texts[i]+string(c))
		}
	}
	before := bytes.Repeat([]byte("x\r\n"), encodeBlock/3+1)
	for _, text := range texts {
		if len(text) < length {
			continue
		}
		for in := 1; in < length; in++ { // octets of text before the end of the block
			first := append(before[:encodeBlock-in:encodeBlock-in], text[:length-1]...)
			whole, pieces := Encoder{Dots: true}, Encoder{Dots: true}
			want := pieces.Append(nil, before[:encodeBlock-in])
			for i := range len(text) {
				want = pieces.Append(want, []byte(text[i:i+1]))
			}
			got := whole.Append(whole.Append(nil, first), []byte(text[length-1:]))
			if !bytes.Equal(got, want) || whole != pieces {
				t.Fatalf("%q, %d octets before the end of a block: %q, want %q", text, in,
					got[len(got)-20:], want[len(want)-20:])
			}
		}
	}
}
