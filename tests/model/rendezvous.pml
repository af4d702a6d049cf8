/* The rendezvous of src/vcpu/park.c and src/vcpu/vcpu.c, for spin. One control thread, N vCPU
 * threads, and the memory between them, sequentially consistent, as the code asks for where it
 * matters. Each step here is one access there.
 *
 * With ERRAND, one freeze has an errand for those who are parked (vcpu_pool_errand).
 *
 * Checked: no assertion fails, and nobody is left waiting (an invalid end state is a lost kick, a
 * lost wake-up or a lost parked event). Mutations, of which each must be found wrong:
 *   LOOK_FIRST    requests are looked at before immediate_exit is cleared
 *   KICK_FIRST    the kick goes out before the request
 *   NO_TURN       a vCPU counts in without comparing the turn
 *   SLEEP_BLIND   a vCPU sleeps without comparing the bell
 *   BELL_LATE     a vCPU reads the bell after it has looked for errands and at the turn
 *   NO_KILL_WAKE  a kill does not wake who is parked
 *   NO_COMPLETE   a vCPU parks with an exit that KVM has not completed
 */
#ifndef N
#define N 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

/* ---- shared memory ---- */
bool park_bit[N], stop_bit[N]; /* requests */
bool immediate_exit[N];	       /* of the run page */
bool in_kvm[N];		       /* within the KVM_RUN ioctl */
bool signalled[N];	       /* in there: KVM_RUN will end. Elsewhere the handler takes the signal */
byte tally_turn, tally_left;   /* one word */
byte turn;
byte bell;		       /* the futex word */
#ifdef ERRAND
byte errands, errand_left;
#endif
byte events;		       /* signals of the parked event that were not seen yet */

/* ---- ghosts ---- */
bool in_guest[N]; /* runs guest code */
byte captured[N]; /* turn of its registers */
bool owes[N];	  /* an exit is to be completed */
bool asleep[N];	  /* in the futex */
bool gone[N];
byte signals_of[2 * ROUNDS + 3]; /* parked events, by turn */
bool frozen; /* the control thread believes so */

inline kick(i)
{
	immediate_exit[i] = true;
	atomic {
		if
		:: in_kvm[i] -> signalled[i] = true
		:: else
		fi
	}
}

/* Atomically: sleep unless the word has changed. */
inline futex_wait(i, word)
{
	atomic {
#ifdef SLEEP_BLIND
		asleep[i] = true;
#else
		if
		:: bell == word -> asleep[i] = true
		:: else
		fi
#endif
	}
	!asleep[i];
}

inline futex_wake_all(k)
{
	atomic {
		k = 0;
		do
		:: k < N -> asleep[k] = false; k++
		:: else -> break
		od;
		k = 0;
	}
}

inline ring(k)
{
	bell++;
	futex_wake_all(k)
}

inline all_parked(k, now)
{
	frozen = true;
	for (k : 0 .. N - 1) {
		assert(!in_guest[k] && !owes[k] && captured[k] == now)
	}
	k = 0
}

proctype vcpu(byte i)
{
	bool park, stop;
	byte t, b;
#ifdef ERRAND
	byte mine;
#endif

again:
#ifdef LOOK_FIRST
	atomic { park = park_bit[i]; stop = stop_bit[i] }
	immediate_exit[i] = false;
#else
	immediate_exit[i] = false;
	atomic { park = park_bit[i]; stop = stop_bit[i] }
#endif
	if
	:: stop -> goto end
	:: !stop && park && owes[i] ->
#ifdef NO_COMPLETE
		goto parks
#else
		/* KVM_RUN with immediate_exit: completes, runs nothing. Or the completion is one more
		 * exit. */
		immediate_exit[i] = true;
		if
		:: owes[i] = false
		:: skip
		fi;
		goto again
#endif
	:: !stop && park && !owes[i] ->
parks:
		atomic { t = tally_turn }
		if
		:: t % 2 == 0 -> goto again
		:: else
		fi;
		/* Captures its registers. */
		assert(!owes[i] && !in_guest[i]);
		captured[i] = t;
		atomic {
			if
#ifdef NO_TURN
			:: true ->
				tally_left--;
#else
			:: tally_turn != t -> goto again
			:: else ->
				assert(tally_left > 0);
				tally_left--;
#endif
				if
				:: tally_left == 0 -> t = t + 100
				:: else
				fi
			fi
		}
		if
		:: t >= 100 ->
			t = t - 100;
			atomic {
				signals_of[t]++;
				assert(signals_of[t] == 1);
				events++;
			}
		:: else
		fi;
		do
		:: true ->
#ifndef BELL_LATE
			b = bell;
#endif
#ifdef ERRAND
			if
			:: errands != mine ->
				mine = errands;
				assert(!in_guest[i]);
				errand_left--
			:: errands == mine
			fi;
#endif
			if
			:: turn != t -> break
			:: turn == t
			fi;
#ifdef BELL_LATE
			b = bell;
#endif
			futex_wait(i, b)
		od;
		goto again
	:: else
	fi;

	/* KVM_RUN: completes what is owed, looks at immediate_exit once, and at signals whenever it
	 * is about to run the guest. */
	in_kvm[i] = true;
	owes[i] = false;
	if
	:: immediate_exit[i] -> goto out
	:: else
	fi;
	atomic {
		if
		:: signalled[i] -> goto out
		:: else ->
			assert(!frozen);
			in_guest[i] = true
		fi
	}
	if
	:: skip -> signalled[i] /* a loop, or a halt, without end */
	:: skip -> owes[i] = true /* exits; the control thread has replied by then */
	fi;
out:
	atomic { in_guest[i] = false; in_kvm[i] = false; signalled[i] = false }
	goto again;
end:
	gone[i] = true
}

active proctype control()
{
	byte k, round, my_turn;
	bool patient;

	atomic {
		do
		:: k < N -> run vcpu(k); k++
		:: else -> break
		od;
		k = 0
	}
	do
	:: round < ROUNDS ->
		round++;
		/* vcpu_pool_park */
		my_turn = turn + 1;
		turn = my_turn;
		atomic { tally_turn = my_turn; tally_left = N }
		for (k : 0 .. N - 1) {
#ifdef KICK_FIRST
			kick(k);
			park_bit[k] = true
#else
			park_bit[k] = true;
			kick(k)
#endif
		}
		k = 0;
		/* Either the rendezvous has all the time it needs, or a thaw, a kill or the deadline
		 * comes at any moment. A second freeze meanwhile begins nothing: freeze_start. */
		if
		:: patient = true
		:: patient = false
		fi;
wait_parked:
		if
		:: events > 0 -> /* on_parked */
			events--;
			if
			:: tally_left == 0 -> all_parked(k, my_turn)
			:: else -> goto wait_parked /* of a rendezvous that was given up */
			fi
		:: !patient ->
			if
			:: tally_left == 0 -> all_parked(k, my_turn) /* on_deadline: the event is to come */
			:: goto unpark
			:: goto kill
			fi
		fi;
#ifdef ERRAND
		/* vcpu_pool_errand, and its end; a kill does not wait for that. */
		if
		:: skip
		:: frozen && errands == 0 ->
			errand_left = N;
			errands = 1;
			ring(k);
			if
			:: errand_left == 0
			:: goto kill
			fi
		fi;
#endif
		if
		:: skip
		:: skip -> goto kill
		fi;
unpark:
		frozen = false;
		for (k : 0 .. N - 1) {
			park_bit[k] = false
		}
		k = 0;
		atomic { tally_turn = my_turn + 1; tally_left = 0 }
		turn = my_turn + 1;
		ring(k)
	:: round == ROUNDS -> break
	od;
kill:
	/* vcpu_pool_stop */
	frozen = false;
	for (k : 0 .. N - 1) {
		stop_bit[k] = true;
		kick(k)
	}
#ifndef NO_KILL_WAKE
	if
	:: turn % 2 == 1 ->
		for (k : 0 .. N - 1) {
			park_bit[k] = false
		}
		atomic { tally_turn = turn + 1; tally_left = 0 }
		turn = turn + 1;
		ring(k)
	:: else
	fi;
#endif
	for (k : 0 .. N - 1) {
		gone[k]
	}
}
