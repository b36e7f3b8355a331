/* A lane's turn, with parking, as a model. Producers append; arq carries turns (it may lose, repeat or delay them); workers may
 * crash, freeze or be fenced off at any step; attempts may fail, of the whole destination or of one delivery, whose order key
 * is then parked; a sweep finds dead turns and wakes idle lanes whose parked keys are due. Each atomic step is one script of
 * src/eventrouter/lua, named in a comment. Holds, for two workers:
 *   - a delivery is settled exactly once, and only after it was attempted (assertions);
 *   - a key's next delivery is not attempted before the one before is settled, by frozen workers that wake up neither (assertion);
 *   - what is parked is appended to its key's stream in order, else the server would refuse it (assertion);
 *   - everything is settled in the end, however often the lease of a turn that still waits in arq runs out (ltl done).
 * A delivery is its index. Crashes, losses, repeats, failures are finite (FAULTS). README.md says how to run it. */
#ifndef ITEMS
#define ITEMS   2
#endif
#ifndef KEYS
#define KEYS    1
#endif
#ifndef FAULTS
#define FAULTS  2
#endif
#define WORKERS 2
#define NONE    255
#define KEY(i)  ((i) % KEYS)

mtype = { NOWHERE, LANE, PARK, GONE };

mtype where[ITEMS] = NOWHERE;
byte tail = 0;               /* how many deliveries were appended */
bool parked[KEYS];
bool due[KEYS];              /* the next try of a parked key is now */
byte token = 0;              /* fencing token (here a counter; in practice a nonce, since a restored server could repeat a count) */
bool claimed = false;        /* the lane has a turn, waiting in arq or running */
bool begun = false;          /* the turn runs: only then may the sweep change its token */
bool expired = false;        /* the lease is over */
bool attempted[ITEMS];
byte gone = 0;
byte faults = FAULTS;
chan jobs = [3] of { byte }; /* arq: a job is nothing but a token */

inline enqueue(t) {          /* not one step with the claim: the process may die in between, arq may lose the job */
  if
  :: atomic { nfull(jobs) -> jobs!t }
  :: full(jobs)
  :: atomic { faults > 0 -> faults--; expired = true }
  fi
}

inline claim() { claimed = true; begun = false; expired = false; token++ }

inline to_park(i) {          /* XADD refuses an id that is not behind the last one */
  j = i + 1;
  do
  :: j < ITEMS -> assert(KEY(j) != KEY(i) || where[j] != PARK); j++
  :: else -> break
  od;
  where[i] = PARK
}

active proctype producer() {
  byte t; bool won;
  do
  :: tail < ITEMS ->
     d_step {                                   /* step append: and claim the turn if the lane is idle */
       won = false;
       where[tail] = LANE; tail++;
       if :: !claimed -> claim(); t = token; won = true
          :: else -> skip
       fi
     }
     if :: won -> enqueue(t) :: else -> skip fi
  :: else -> break
  od
}

active [WORKERS] proctype worker() {
  byte t, item, i, j, k; bool mine;
  do
  :: jobs?t ->
     d_step {                                   /* step begin: takes a new token, so that a second copy of the job is fenced off */
       mine = false;
       if :: claimed && token == t -> token++; t = token; begun = true; expired = false; mine = true
          :: else -> skip
       fi
     }
     do
     :: !mine -> break
     :: mine ->
        d_step {                                /* step read: the due parked keys, then the lane without parked keys, which move */
          item = NONE;                          /* behind their siblings; nothing there gives the claim back in the same step */
          if
          :: token != t -> mine = false
          :: else ->
             k = 0;
             do
             :: k < KEYS && item == NONE ->
                if
                :: parked[k] && due[k] ->
                   i = 0;
                   do
                   :: i < ITEMS && item == NONE ->
                      if :: where[i] == PARK && KEY(i) == k -> item = i :: else -> skip fi; i++
                   :: else -> break
                   od;
                   if :: item == NONE -> parked[k] = false :: else -> due[k] = false fi
                :: else -> skip
                fi; k++
             :: else -> break
             od;
             i = 0;
             do
             :: i < tail && item == NONE ->
                if
                :: where[i] == LANE && parked[KEY(i)] -> to_park(i)
                :: where[i] == LANE && !parked[KEY(i)] -> item = i
                :: else -> skip
                fi; i++
             :: else -> break
             od;
             if :: item == NONE -> claimed = false; begun = false; mine = false :: else -> skip fi
          fi;
          i = 0; j = 0; k = 0
        }
        if :: !mine -> break :: else -> skip fi;
        if
        :: atomic { faults > 0 -> faults--; if :: token == t -> expired = true :: else -> skip fi; mine = false }   /* crash before */
        :: skip
        fi;
        if :: !mine -> break :: else -> skip fi;
        d_step {                                /* the attempt reaches the destination, a frozen worker's too */
          i = 0;
          do
          :: i < item -> assert(attempted[item] || KEY(i) != KEY(item) || where[i] == GONE); i++
          :: else -> break
          od;
          attempted[item] = true; i = 0
        }
        if
        :: atomic { faults > 0 -> faults--; if :: token == t -> expired = true :: else -> skip fi; mine = false }   /* crash after */
        :: atomic { faults > 0 -> faults--;     /* step yield: the whole failed; back off with a new token, enqueue, deferred */
             if :: token == t -> token++; t = token; begun = false; expired = false :: else -> mine = false fi }
           if :: mine -> mine = false; enqueue(t) :: else -> skip fi
        :: d_step { faults > 0 -> faults--;     /* step settle: this one failed; park its key */
             if
             :: token == t ->
                if :: where[item] == LANE -> to_park(item) :: else -> skip fi;
                parked[KEY(item)] = true; due[KEY(item)] = false; item = NONE
             :: else -> mine = false
             fi;
             j = 0 }
        :: skip
        fi;
        if
        :: !mine -> break
        :: mine && item == NONE -> skip         /* parked: read on */
        :: mine && item != NONE ->
           d_step {                             /* step settle: it was taken */
             if
             :: token == t ->
                assert(attempted[item] && (where[item] == LANE || where[item] == PARK));
                if
                :: where[item] == PARK ->
                   where[item] = GONE; j = 0; parked[KEY(item)] = false;
                   do
                   :: j < ITEMS ->
                      if :: where[j] == PARK && KEY(j) == KEY(item) -> parked[KEY(item)] = true; due[KEY(item)] = true
                         :: else -> skip
                      fi; j++
                   :: else -> break
                   od
                :: else -> where[item] = GONE
                fi;
                gone++
             :: else -> mine = false
             fi;
             j = 0; item = NONE
           }
        fi
     od;
     item = NONE
  od
}

active proctype arq_repeats() {
  byte t;
  do
  :: atomic { faults > 0 && nempty(jobs) && nfull(jobs) -> faults--; jobs?t; jobs!t; jobs!t; t = 0 }
  od
}

active proctype time() {
  do
  :: atomic { claimed && begun && !expired && faults > 0 -> faults--; expired = true }   /* slower than its lease, despite step renew */
  :: atomic { claimed && !begun && !expired -> expired = true }                          /* still waiting in arq: as often as it likes */
  :: atomic { parked[0] && !due[0] -> due[0] = true }
#if KEYS > 1
  :: atomic { parked[1] && !due[1] -> due[1] = true }
#endif
  od
}

#if KEYS > 1
#define SOME_DUE ((parked[0] && due[0]) || (parked[1] && due[1]))
#else
#define SOME_DUE (parked[0] && due[0])
#endif

active proctype sweep() {
  byte t;
  do
  :: d_step { claimed && expired -> expired = false;                                     /* step sweep */
       if :: begun -> token++; begun = false :: else -> skip fi;                         /* same token while it waits in arq */
       t = token }
     enqueue(t); t = 0
  :: d_step { !claimed && SOME_DUE -> claim(); t = token }                               /* and idle lanes whose parked keys are due */
     enqueue(t); t = 0
  od
}

ltl done { <> (gone == ITEMS) }
