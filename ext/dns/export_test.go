package dns

// SetPlaces sets how many questions may be under way.
func (s *Stub) SetPlaces(n int) { s.places = newPlaces(n) }
