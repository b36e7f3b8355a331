/* The router's step over two lanes, as a model: an event lies in the log's lane; one atomic, fenced step takes it out, marks it
 * as seen, appends it to a destination's lane and claims that lane if it is idle. Clients may send an event again; arq, workers
 * and the sweep fail as in lane.pml. Holds, for two workers that serve both lanes:
 *   - each event is appended to the destination's lane exactly once, in the order of its first acceptance (assertions);
 *   - each delivery is settled exactly once, after it was attempted (assertion);
 *   - everything is settled in the end, both lanes idle (ltl done). */
#ifndef EVENTS
#define EVENTS  2
#endif
#ifndef REPEATS
#define REPEATS 1
#endif
#ifndef FAULTS
#define FAULTS  1
#endif
#define WORKERS 2
#define LOG     0
#define DEST    1
#define ENTRIES (EVENTS + REPEATS)

byte log[ENTRIES];           /* the events of the log's entries */
byte head[2], tail[2];       /* of each lane: settled below head, waiting from head to tail-1; the destination's item i is event i */
bool seen[EVENTS];
byte token[2];
bool claimed[2], begun[2], expired[2];
byte delivered = 0;
byte accepted = 0, repeats = REPEATS, faults = FAULTS;
chan jobs = [3] of { bit, byte };

inline enqueue(l, t) {
  if
  :: atomic { nfull(jobs) -> jobs!l, t }
  :: full(jobs)
  :: atomic { faults > 0 -> faults--; expired[l] = true }
  fi
}

inline claim(l) { claimed[l] = true; begun[l] = false; expired[l] = false; token[l]++ }

active proctype client() {
  byte t; bool won;
  do
  :: accepted < EVENTS || (repeats > 0 && accepted > 0) ->
     atomic {                                   /* step append: a new event, or one that was sent before */
       won = false;
       if
       :: accepted < EVENTS -> log[tail[LOG]] = accepted; accepted++
       :: repeats > 0 && accepted > 0 -> repeats--; log[tail[LOG]] = accepted - 1
       fi;
       tail[LOG]++;
       if :: !claimed[LOG] -> claim(LOG); t = token[LOG]; won = true
          :: else -> skip
       fi
     }
     if :: won -> enqueue(LOG, t) :: else -> skip fi
  :: else -> break
  od
}

active [WORKERS] proctype worker() {
  bit l; byte t, t2, item; bool mine, fresh, won;
  do
  :: jobs?l, t ->
     d_step {                                   /* step begin */
       mine = false;
       if :: claimed[l] && token[l] == t -> token[l]++; t = token[l]; begun[l] = true; expired[l] = false; mine = true
          :: else -> skip
       fi
     }
     do
     :: !mine -> break
     :: mine ->
        d_step {                                /* step read */
          if
          :: token[l] != t -> mine = false
          :: token[l] == t && head[l] == tail[l] -> claimed[l] = false; begun[l] = false; mine = false
          :: token[l] == t && head[l] < tail[l] -> item = head[l]
          fi
        }
        if :: !mine -> break :: else -> skip fi;
        if
        :: l == LOG -> fresh = !seen[log[item]]                                           /* step look */
        :: l == DEST ->
           d_step {                             /* the attempt */
             assert(item <= delivered);
             if :: item == delivered -> delivered++ :: else -> skip fi
           }
        fi;
        if
        :: atomic { faults > 0 -> faults--; if :: token[l] == t -> expired[l] = true :: else -> skip fi; mine = false }   /* crash */
        :: skip
        fi;
        if :: !mine -> break :: else -> skip fi;
        d_step {                                /* step settle: for the router also mark and append */
          won = false;
          if
          :: token[l] == t && l == LOG ->
             assert(item == head[LOG]);
             if
             :: fresh ->
                assert(!seen[log[item]] && tail[DEST] == log[item]);
                seen[log[item]] = true; tail[DEST]++;
                if :: !claimed[DEST] -> claim(DEST); t2 = token[DEST]; won = true :: else -> skip fi
             :: else -> skip
             fi;
             head[LOG]++
          :: token[l] == t && l == DEST -> assert(item == head[DEST] && item < delivered); head[DEST]++
          :: token[l] != t -> mine = false
          fi;
          fresh = false; item = 0
        }
        if :: won -> won = false; enqueue(DEST, t2); t2 = 0 :: else -> skip fi
     od;
     fresh = false; item = 0; t = 0; l = 0
  od
}

active proctype arq_repeats() {
  bit l; byte t;
  do
  :: atomic { faults > 0 && nempty(jobs) && nfull(jobs) -> faults--; jobs?l, t; jobs!l, t; jobs!l, t; t = 0; l = 0 }
  od
}

active proctype leases() {
  do
  :: atomic { claimed[LOG] && begun[LOG] && !expired[LOG] && faults > 0 -> faults--; expired[LOG] = true }
  :: atomic { claimed[DEST] && begun[DEST] && !expired[DEST] && faults > 0 -> faults--; expired[DEST] = true }
  :: atomic { claimed[LOG] && !begun[LOG] && !expired[LOG] -> expired[LOG] = true }
  :: atomic { claimed[DEST] && !begun[DEST] && !expired[DEST] -> expired[DEST] = true }
  od
}

inline sweep_lane(l) {                                                                    /* step sweep */
  d_step { claimed[l] && expired[l] -> expired[l] = false;
    if :: begun[l] -> token[l]++; begun[l] = false :: else -> skip fi;
    t = token[l] }
  enqueue(l, t); t = 0
}

active proctype sweep() {
  byte t;
  do
  :: sweep_lane(LOG)
  :: sweep_lane(DEST)
  od
}

ltl done { <> (accepted == EVENTS && head[DEST] == EVENTS && head[LOG] == tail[LOG] && repeats == 0 && !claimed[LOG] && !claimed[DEST]) }
