package queue

import "maps"

// Reopen returns a Memory with all that a closed one has: what a Store does that outlives its process.
func (m *Memory) Reopen() *Memory {
	return &Memory{index: m.index, messages: maps.Clone(m.messages), suspensions: maps.Clone(m.suspensions)}
}

// Looked returns the number of jobs and destinations that were looked at.
func (m *Memory) Looked() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index.looked
}
