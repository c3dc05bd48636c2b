package slot

// maxTerms is how many terms are told apart where nobody needs it to catch up.
const maxTerms = 64

// TermEnd says where the entries of a term end.
type TermEnd struct{ Term, Last uint64 }

// terms are the terms of a log's entries, oldest first.
type terms []TermEnd

// newest is the term of the last entry, 0 without entries.
func (t terms) newest() uint64 {
	if len(t) == 0 {
		return 0
	}
	return t[len(t)-1].Term
}

// push takes the term of the next entry.
func (t terms) push(term, offset uint64) terms {
	if n := len(t); n > 0 && t[n-1].Term == term {
		t[n-1].Last = offset
		return t
	}
	return append(t, TermEnd{term, offset})
}

// cut forgets the entries after an offset, of a log with this base.
func (t terms) cut(base, after uint64) terms {
	for n := len(t); n > 0; n-- {
		begin := base
		if n > 1 {
			begin = t[n-2].Last
		}
		if begin < after {
			t[n-1].Last = min(t[n-1].Last, after)
			return t[:n]
		}
	}
	return nil
}

// merge drops the oldest of very many terms, if they end before an offset.
func (t terms) merge(before uint64) terms {
	for len(t) > maxTerms && t[0].Last < before {
		t = t[1:]
	}
	return t
}
