package replica

// mutation reverts a rule of CORRECTNESS: in file old becomes new, and the
// simulation must find what that loses.
type mutation struct {
	name     string
	file     string
	old, new string
	rare     int // within how many more schedules it is found; 0: none
}

// within is how many schedules that may take. It took up to two thirds of them
// when this was written, and less than a tenth for most mutations.
const within = 10000

// mutations are the holes of CORRECTNESS that this machine could have, by its
// numbers. Not among them is what others keep closed already: see the end of the
// package's documentation.
var mutations = []mutation{
	{
		name: "1 cut to the commit mark in a new term",
		file: "backup.go",
		old:  "	r.leader = leader{name: from, round: m.Round, up: r.up[from]}\n	out.send(from, &State",
		new:  "	_ = r.log.Cut(r.commit)\n	r.leader = leader{name: from, round: m.Round, up: r.up[from]}\n	out.send(from, &State",
	},
	{
		name: "1 a new primary cuts what it has not heard to be committed",
		file: "lead.go",
		old:  "	r.lead = &lead{inherited: r.log.End()}\n",
		new:  "	_ = r.log.Cut(r.commit)\n	r.lead = &lead{inherited: r.log.End()}\n",
	},
	{
		name: "1 logs agree as far as the shorter one goes",
		file: "peer.go",
		old:  "shared(r.log.Base(), r.log.Terms(), m.Terms)",
		new:  "min(r.log.End(), m.End)",
	},
	{
		name: "2 same name, empty memory",
		file: "simnode_test.go",
		old:  "		n.logID++\n",
		new:  "		n.logID = 1\n",
	},
	{
		name: "2 drop a log without asking whether it counts",
		file: "backup.go",
		old:  `	case r.leader.name == "" && r.term > r.born:`,
		new:  `	case true:`,
	},
	{
		name: "2 drop a log once more, of which acknowledgements count",
		file: "backup.go",
		old:  " || m.Round <= r.leader.round {",
		new:  " {",
	},
	{
		name: "2 count acknowledgements of a log that was dropped",
		file: "peer.go",
		old:  " || m.Term != r.term || m.Round < p.first {",
		new:  " || m.Term != r.term {",
	},
	{
		name: "3 an add that is not answered does not count",
		file: "lead.go",
		old:  "		visit(r.writing.Row)\n",
		new:  "",
	},
	{
		name: "3 an add of which the answer was lost does not count",
		file: "lead.go",
		old:  "	for _, row := range r.unsure {\n		visit(row)\n	}\n",
		new:  "",
	},
	{
		name: "3 a removal counts when it is sent",
		file: "lead.go",
		old:  "	visit(r.row)\n",
		new:  "	if r.writing == nil {\n		visit(r.row)\n	}\n",
	},
	{
		name: "3 add who holds what this primary committed, not what others did",
		file: "plan.go",
		old:  "p.acked >= max(r.commit, r.lead.inherited)",
		new:  "p.acked >= r.commit",
	},
	{
		name: "3 add who has not caught up",
		file: "plan.go",
		old:  " && p.acked >= max(r.commit, r.lead.inherited)",
		new:  "",
	},
	{
		name: "4 acknowledge alone while cut off",
		file: "lead.go",
		old:  "upto > r.commit && !r.isolated(now)",
		new:  "upto > r.commit",
	},
	{
		name: "4 give up a log before its primary agreed",
		file: "simcontrol_test.go",
		old:  "		row.InSync, row.UncleanAfter = heirs, 0\n",
		new:  "		row.InSync = heirs\n",
	},
	{
		name: "4 accept and acknowledge alone while cut off",
		file: "lead.go",
		old:  "	return r.lead.alone > 0 && ",
		new:  "	return false && ",
	},
	{
		name: "4 alone is who waits for nobody",
		file: "lead.go",
		old:  "len(row.InSync) == 1 && u > 0",
		new:  "len(row.InSync) == 1 && r.writing == nil && r.unsure == nil && u > 0",
	},
	{
		name: "4 give up several logs for their silence",
		file: "simcontrol_test.go",
		old:  "len(doubtful) > 1",
		new:  "len(doubtful) > 9",
	},
	{
		name: "4 marks of a primary that is alone and cut off",
		file: "lead.go",
		old:  "		asOf = r.renewed.Add(r.lead.alone / 2)\n",
		new:  "",
	},
	{
		name: "5 the entry before a channel's first is 0",
		file: "../history/history.go",
		old:  "	return Tail{Name: name, Prev: h.floor, Class: class}",
		new:  "	return Tail{Name: name, Class: class}",
	},
	{
		name: "9 marks of a primary that heard nothing",
		file: "lead.go",
		old:  "		case p.heard.Before(asOf):\n			asOf = p.heard\n",
		new:  "",
	},
	{
		name: "9 marks of a member that may not have heard who leads",
		file: "machine.go",
		old:  "		if p.joined { // otherwise",
		new:  "		if true { // otherwise",
	},
	{
		name: "9 leave a term without a word",
		file: "machine.go",
		old:  `	if r.leader.name != "" {`,
		new:  `	if false {`,
	},
	{
		name: "9 a copy has followers for what is not committed",
		file: "relay.go",
		old:  "	if upto := min(commit, r.log.End()); upto",
		new:  "	if upto := r.log.End(); upto",
	},
	{
		name: "9 a copy's marks are only as old as its question",
		file: "relay.go",
		old:  "	if asOf := l.asked.Add(-m.Age); asOf",
		new:  "	if asOf := l.asked; asOf",
	},
	{
		name: "9 a copy takes the answer to an earlier question",
		file: "relay.go",
		old:  " || m.Number != l.number",
		new:  "",
	},
	{
		name: "9 a copy takes over marks beyond its log",
		file: "relay.go",
		old:  " || m.Commit > r.log.End() {",
		new:  " {",
		rare: 30_000, // it takes an append that is lost to who was removed and has not heard of it: 16,566
	},
	{
		name: "9 a copy has followers while its log is replaced",
		file: "relay.go",
		old:  "r.lead == nil && l.joined && l.up",
		new:  "r.lead == nil && (l.joined || r.relays)",
	},
	{
		name: "9 a primary proves to a copy what nobody has proved to it",
		file: "relay.go",
		old:  "	if asOf, ok := r.AsOf(now); ok {",
		new:  "	if asOf, ok := now, true; ok {",
	},
	{
		name: "11 serve before the tail is committed anew",
		file: "lead.go",
		old:  "!r.lead.serving && r.commit >= r.lead.inherited",
		new:  "!r.lead.serving",
	},
	{
		name: "11 a position not yet committed is lost",
		file: "../slot/slot.go",
		old:  "			return history.Page{}, ErrAhead\n",
		new:  "			return history.Page{Through: s.committed, Lost: true}, nil\n",
	},
	{
		name: "12 acknowledge before it is synced",
		file: "backup.go",
		old:  "	held := r.log.Held()\n",
		new:  "	held := r.log.End()\n",
	},
	{
		name: "12 commit before it is synced",
		file: "lead.go",
		old:  "	upto := r.log.Held()\n",
		new:  "	upto := r.log.End()\n",
	},
	{
		name: "12 lead again in a term of an earlier life",
		file: "lead.go",
		old:  " || r.row.Term <= r.born:",
		new:  ":",
	},
	{
		name: "12 lead before the term is synced",
		file: "lead.go",
		old:  "	if r.log.Held() == 0 {",
		new:  "	if false {",
	},
	{
		name: "12 drop a log of an earlier life",
		file: "backup.go",
		old:  `	case r.leader.name == "" && r.term > r.born:`,
		new:  `	case r.leader.name == "":`,
	},
	{
		name: "13 answer a duplicate at once",
		file: "simnode_test.go",
		old:  "		if offset <= p.log.commit {\n",
		new:  "		if true {\n",
	},
	{
		name: "13 keys stay when their entries are cut",
		file: "../slot/backup.go",
		old:  "			s.keys.undo()\n",
		new:  "",
	},
	{
		name: "13 a snapshot leaves the keys behind",
		file: "../slot/snapshot.go",
		old:  "{recordKey, keys, ",
		new:  "{recordKey, 0*keys, ",
	},
	{
		name: "15 count silence by the clock",
		file: "simnode_test.go",
		old:  "	n.tick = n.w.now + tickEvery\n	for _, p := range n.places {\n",
		new:  "	late := (n.w.now - n.tick) / tickEvery\n	n.tick = n.w.now + tickEvery\n	for _, p := range n.places {\n		for range late {\n			p.rep.Tick(n.w.clock(), &p.out)\n			p.perform()\n		}\n",
	},
	{
		name: "15 let who failed return at once",
		file: "plan.go",
		old:  "p.joined && r.trusts(p) &&",
		new:  "p.joined &&",
	},
	{
		name: "16 count acknowledgements of other terms",
		file: "peer.go",
		old:  " || m.Term != r.term || m.Round < p.first {",
		new:  " || m.Round < p.first {",
	},
	{
		name: "16 reconcile by the answer to an earlier question",
		file: "peer.go",
		old:  "if p == nil || term != r.term || round != p.round {",
		new:  "if p == nil || term != r.term {",
	},
	{
		name: "16 take entries of a round that is over",
		file: "backup.go",
		old:  "r.leader.name == from && r.leader.round == round",
		new:  "r.leader.name == from",
	},
	{
		name: "16 take entries over a hole",
		file: "backup.go",
		old:  "	if m.Prev > r.log.End() {\n",
		new:  "	if false {\n",
	},
	{
		name: "16 go back to an older row",
		file: "machine.go",
		old:  "	case row.Version < r.row.Version:\n		return\n",
		new:  "",
	},
	{
		name: "16 commit before all are reconciled",
		file: "lead.go",
		old:  "		if p.waits {\n			upto",
		new:  "		if p.waits && p.joined {\n			upto",
	},
	{
		name: "16 follow a lower term",
		file: "backup.go",
		old:  "	if term < r.term {\n",
		new:  "	if false {\n",
	},
	{
		name: "16 keep what the primary lacks",
		file: "backup.go",
		old:  "	if err := r.log.Cut(m.Prev); err != nil {",
		new:  "	if err := error(nil); err != nil {",
	},
	{
		name: "16 count what is acknowledged, reconciled or not",
		file: "backup.go",
		old:  "	if l := &r.leader; l.joined && held > l.acked {",
		new:  "	if l := &r.leader; l.name != \"\" && held > l.acked {",
	},
	{
		name: "30 hand over to who is desired by now, in sync or not",
		file: "plan.go",
		old:  "	case r.lead.moving && !r.wantsMove():\n",
		new:  "	case false:\n",
	},
	{
		name: "30 hand over before all is committed",
		file: "plan.go",
		old:  "		if r.commit == r.log.End() {\n",
		new:  "		if true {\n",
	},
	{
		name: "30 append with too few copies",
		file: "lead.go",
		old:  "	case r.lead.least < r.cfg.MinInSync:\n",
		new:  "	case false:\n",
	},
	{
		name: "30 acknowledge what too few copies hold",
		file: "lead.go",
		old:  "		out.Few = out.Few || r.lead.least < r.cfg.MinInSync\n",
		new:  "",
	},
	{
		name: "30 count who is in sync as if no write were unanswered",
		file: "lead.go",
		old:  "		r.lead.least = min(r.lead.least, len(row.InSync))\n",
		new:  "",
	},
	{
		name: "30 remove before the replacement is in sync",
		file: "plan.go",
		old:  "		if !slices.Contains(inSync, m) {\n",
		new:  "		if m == \"\" {\n",
	},
}
