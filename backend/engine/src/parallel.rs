//! Work that is shared out among threads.
//!
//! A small pool of threads stands by. Whoever has work publishes it and begins with it; whoever of
//! the pool is free joins in, piece by piece, and nobody waits for a thread that the system gives
//! no core. Free threads look out for work for some microseconds, then sleep: the cores are for
//! the browser and the rest of the machine too. On these threads libtorch has one thread, so none
//! of its operations waits for others there.
//!
//! Where libtorch itself runs on several threads, as for large models and in training, pieces are
//! shared out among those: two sets of threads would keep each other from the cores.

#![expect(
    unsafe_code,
    reason = "work is lent to other threads, and libtorch's are a foreign library's"
)]

use std::{
    any::Any,
    cell::Cell,
    ffi::{c_int, c_uint, c_void},
    hint,
    marker::PhantomData,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use libloading::os::unix::Library;

/// How long a free thread looks out for work before it sleeps: as long as waking it takes.
const LOOK_OUT: Duration = Duration::from_micros(50);

/// Threads that work is shared out among, this one counted.
#[cfg_attr(not(avx512), allow(dead_code, reason = "only operations of our own are cut up"))]
pub(crate) fn threads() -> usize {
    let of_libtorch = of_libtorch();
    if of_libtorch > 1 { of_libtorch } else { Pool::get().threads }
}

fn of_libtorch() -> usize {
    tch::get_num_threads().max(1) as usize
}

/// Does `work` with each item, on all threads, each of which takes the next one when it is done
/// with its last. What `scratch` makes is each thread's own.
#[cfg_attr(not(avx512), allow(dead_code, reason = "only operations of our own are cut up"))]
pub(crate) fn in_turn<I: Send, S>(
    items: impl Iterator<Item = I> + Send,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(I, &mut S) + Sync,
) {
    let items = Mutex::new(items);
    let share = || {
        let mut scratch = scratch();
        loop {
            let next = lock(&items).next();
            let Some(item) = next else { break };
            work(item, &mut scratch);
        }
    };
    let of_libtorch = of_libtorch();
    if of_libtorch > 1 {
        return in_libtorchs_threads(of_libtorch, &share);
    }
    let pool = Pool::get();
    if pool.threads == 1 { share() } else { pool.share(Helpers::BesideThisThread, &share, share) }
}

/// Makes something of each item, several at once where this thread is [`Alone`] with libtorch, and
/// hands over what was made in the order of the items, each as soon as it and all before it are
/// there. This thread hands over; the pool's make. `None` if `take` says stop, some items then
/// being left.
pub(crate) fn in_order<I, T>(
    items: Vec<I>,
    make: impl Fn(I) -> T,
    mut take: impl FnMut(T) -> Option<()>,
) -> Option<()> {
    let pool = Pool::get();
    let alone = of_libtorch() > 1 || pool.threads == 1 || IS_OF_THE_POOL.get();
    if alone || items.len() < 2 {
        return items.into_iter().try_for_each(|item| take(make(item)));
    }
    let made: Vec<Mutex<Option<T>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let (left, stop, owner) =
        (Mutex::new(items.into_iter().enumerate()), AtomicBool::new(false), thread::current());
    let shared = Lent((&left, &made, &make));
    let work = || {
        let (left, made, make) = shared.get();
        // A maker that fails leaves its place empty; the others stop, and so does who waits.
        let failing = OnUnwind(|| {
            stop.store(true, Ordering::SeqCst);
            owner.unpark();
        });
        while !stop.load(Ordering::SeqCst) {
            let next = lock(left).next();
            let Some((index, item)) = next else { break };
            let outcome = make(item);
            *lock(&made[index]) = Some(outcome);
            owner.unpark();
        }
        mem::forget(failing);
    };
    let mut outcome = Some(());
    pool.share(Helpers::InPlaceOfThisThread, &work, || {
        for place in &made {
            let next = loop {
                let ready = lock(place).take();
                if ready.is_some() || stop.load(Ordering::SeqCst) {
                    break ready;
                }
                thread::park();
            };
            outcome = next.and_then(&mut take);
            if outcome.is_none() {
                stop.store(true, Ordering::SeqCst);
                break;
            }
        }
    });
    outcome
}

/// What is made of each item, in their order; see [`in_order`].
pub(crate) fn each<I, T>(items: Vec<I>, make: impl Fn(I) -> T) -> Vec<T> {
    let mut made = Vec::with_capacity(items.len());
    let all = in_order(items, make, |outcome| {
        made.push(outcome);
        Some(())
    });
    debug_assert!(all.is_some());
    made
}

/// Runs when a panic passes.
struct OnUnwind<F: Fn()>(F);

impl<F: Fn()> Drop for OnUnwind<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What other threads may read while its owner waits for them: tensors, which libtorch lets any
/// thread read, and what holds them.
struct Lent<T>(T);

// SAFETY: libtorch's tensors count their owners atomically and may be read by several threads at
// once. The binding leaves them without `Sync` since it writes in place through shared references
// too; nothing of this crate does that to a tensor that it lends.
unsafe impl<T> Send for Lent<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Lent<T> {}

impl<T> Lent<T> {
    fn get(&self) -> &T {
        &self.0
    }
}

/// While it lives libtorch runs on one thread where this one calls it, and the pool helps with what
/// is shared out.
pub(crate) struct Alone {
    before: usize,
    /// It is about the thread that it was made on.
    _here: PhantomData<*const ()>,
}

impl Alone {
    /// On this thread.
    pub(crate) fn here() -> Self {
        let before = of_libtorch();
        if before > 1 {
            // As large as libtorch's own threads are many here.
            Pool::get();
            set_threads_here(1);
        }
        Self { before, _here: PhantomData }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if self.before > 1 {
            set_threads_here(self.before);
        }
    }
}

/// Sets how many threads libtorch runs on where this thread calls it. Its own function would do so
/// for threads to come too, and start a pool anew.
fn set_threads_here(threads: usize) {
    type Set = unsafe extern "C" fn(c_int);
    static FOUND: OnceLock<[Option<Set>; 2]> = OnceLock::new();
    let find = |name: &[u8]| {
        // SAFETY: these names are those of OpenMP and of Intel's library within libtorch; both take
        // a number of threads, for the calling thread.
        unsafe { Library::this().get::<Set>(name).ok().map(|symbol| *symbol) }
    };
    let found = FOUND
        .get_or_init(|| [find(b"omp_set_num_threads\0"), find(b"MKL_Set_Num_Threads_Local\0")]);
    for set in found.iter().flatten() {
        // SAFETY: any number from 1 on may be given.
        unsafe { set(threads as c_int) };
    }
}

thread_local! {
    static IS_OF_THE_POOL: Cell<bool> = const { Cell::new(false) };
}

/// Threads that stand by, one for each core. The first of them, the reserve, works only in place of
/// the thread that publishes; the others do beside it.
struct Pool {
    /// As many as libtorch would use.
    threads: usize,
    state: Mutex<State>,
    news: Condvar,
    news_for_the_reserve: Condvar,
    /// How often work was published.
    published: AtomicUsize,
}

/// Whom work is published for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Helpers {
    /// Whoever publishes works too, in pieces of microseconds.
    BesideThisThread,
    /// Whoever publishes sleeps until something is made, which takes milliseconds.
    InPlaceOfThisThread,
}

#[derive(Default)]
struct State {
    rounds: Vec<Arc<Round>>,
    sleeping: usize,
}

/// A thread of the pool.
#[derive(Clone, Copy)]
struct Member {
    number: usize,
}

impl Member {
    fn is_reserve(self) -> bool {
        self.number == 0
    }
}

/// Work that is published: the same for everybody, who shares it out among themselves.
struct Round {
    work: &'static (dyn Fn() + Sync),
    owner: Thread,
    helpers: Helpers,
    /// Helpers that may still join. Changed under the pool's lock only.
    room: AtomicUsize,
    /// Helpers at work.
    inside: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Pool {
    /// The pool, which starts when it is first asked for: with as many threads as libtorch has
    /// where that is.
    fn get() -> &'static Self {
        static POOL: OnceLock<&'static Pool> = OnceLock::new();
        POOL.get_or_init(|| {
            let threads = of_libtorch();
            let pool: &'static Self = Box::leak(Box::new(Self {
                threads,
                state: Mutex::default(),
                news: Condvar::new(),
                news_for_the_reserve: Condvar::new(),
                published: AtomicUsize::new(0),
            }));
            let started = (0..if threads > 1 { threads } else { 0 }).filter(|&number| {
                let name = format!("engine {number}");
                thread::Builder::new()
                    .name(name)
                    .spawn(move || pool.stand_by(Member { number }))
                    .is_ok()
            });
            let started = started.count();
            if started < threads && threads > 1 {
                tracing::warn!(started, "the system gives fewer threads than it has cores");
            }
            pool
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Publishes `work` for `helpers`, does `own`, and is back when all are done.
    fn share(&self, helpers: Helpers, work: &(dyn Fn() + Sync), own: impl FnOnce()) {
        // SAFETY: this function does not end, by a panic neither, before `finish` has seen that no
        // helper is inside, and none can join after.
        let work =
            unsafe { mem::transmute::<&(dyn Fn() + Sync), &'static (dyn Fn() + Sync)>(work) };
        let round = Arc::new(Round {
            work,
            owner: thread::current(),
            helpers,
            room: AtomicUsize::new(match helpers {
                Helpers::BesideThisThread => self.threads - 1,
                Helpers::InPlaceOfThisThread => self.threads,
            }),
            inside: AtomicUsize::new(0),
            panic: Mutex::new(None),
        });
        let sleeping = {
            let mut state = self.state();
            state.rounds.push(round.clone());
            self.published.fetch_add(1, Ordering::SeqCst);
            state.sleeping
        };
        for _ in 0..sleeping.min(self.threads - 1) {
            self.news.notify_one();
        }
        if helpers == Helpers::InPlaceOfThisThread {
            self.news_for_the_reserve.notify_one();
        }
        let outcome = catch_unwind(AssertUnwindSafe(own));
        self.finish(&round);
        if let Some(panic) = lock(&round.panic).take() {
            resume_unwind(panic);
        }
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    }

    /// Lets nobody join any more, and waits for those who are inside.
    fn finish(&self, round: &Arc<Round>) {
        self.state().rounds.retain(|other| !Arc::ptr_eq(other, round));
        let since = Instant::now();
        while round.inside.load(Ordering::SeqCst) > 0 {
            if since.elapsed() < LOOK_OUT {
                hint::spin_loop();
            } else {
                // A helper may have lost its core: it has this one now.
                thread::park();
            }
        }
    }

    /// What each thread of the pool does.
    fn stand_by(&self, member: Member) {
        keep_to_core(member.number);
        IS_OF_THE_POOL.set(true);
        // Asked first, since libtorch sets a thread's numbers when that calls it for the first
        // time.
        of_libtorch();
        set_threads_here(1);
        let _no_grad = tch::no_grad_guard();
        loop {
            let round = self.join(member);
            let outcome = catch_unwind(AssertUnwindSafe(round.work));
            // Its items are given out; it has room for nobody.
            self.state().rounds.retain(|other| !Arc::ptr_eq(other, &round));
            if let Err(panic) = outcome {
                *lock(&round.panic) = Some(panic);
            }
            let owner = round.owner.clone();
            if round.inside.fetch_sub(1, Ordering::SeqCst) == 1 {
                owner.unpark();
            }
        }
    }

    /// Waits for work, and joins the oldest there is: that comes in larger pieces than what was
    /// published in the midst of it.
    fn join(&self, member: Member) -> Arc<Round> {
        loop {
            let seen = self.published.load(Ordering::SeqCst);
            if let Some(round) = self.state().join(member) {
                return round;
            }
            if !member.is_reserve() {
                self.look_out(seen);
            }
            let mut state = self.state();
            while self.published.load(Ordering::SeqCst) == seen {
                if member.is_reserve() {
                    let news = self.news_for_the_reserve.wait(state);
                    state = news.unwrap_or_else(PoisonError::into_inner);
                } else {
                    state.sleeping += 1;
                    state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.sleeping -= 1;
                }
            }
        }
    }

    /// For a moment, unless more than `seen` was published.
    fn look_out(&self, seen: usize) {
        let since = Instant::now();
        while self.published.load(Ordering::SeqCst) == seen && since.elapsed() < LOOK_OUT {
            hint::spin_loop();
        }
    }
}

impl State {
    fn join(&self, member: Member) -> Option<Arc<Round>> {
        let for_member = |round: &&Arc<Round>| {
            let reserved = round.helpers == Helpers::BesideThisThread && member.is_reserve();
            !reserved && round.room.load(Ordering::SeqCst) > 0
        };
        let round = self.rounds.iter().find(for_member)?;
        round.room.fetch_sub(1, Ordering::SeqCst);
        round.inside.fetch_add(1, Ordering::SeqCst);
        Some(round.clone())
    }
}

/// Keeps this thread to one of the cores that the program may use, the one of this number. Left to
/// itself the system puts two threads of the pool on one core for as long as a picture takes where
/// another program has the other.
fn keep_to_core(number: usize) {
    // SAFETY: these read and write the sets that they are given, which are zeroed as they may be;
    // a number beyond a set is ignored.
    unsafe {
        let mut allowed: libc::cpu_set_t = mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        if libc::sched_getaffinity(0, size, &raw mut allowed) != 0 {
            return;
        }
        let cores = (0..libc::CPU_SETSIZE as usize).filter(|&core| libc::CPU_ISSET(core, &allowed));
        let cores: Vec<usize> = cores.collect();
        let Some(&core) = cores.get(number % cores.len().max(1)) else { return };
        let mut own: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(core, &mut own);
        libc::sched_setaffinity(0, size, &raw const own);
    }
}

/// Runs `work` on `threads` threads at once, this one among them; back when all are done.
///
/// They are OpenMP's, as libtorch's own: those look out for work for some milliseconds after they
/// had some, and other threads would have to share the cores with them.
#[cfg_attr(not(avx512), allow(dead_code, reason = "only operations of our own are cut up"))]
fn in_libtorchs_threads(threads: usize, work: &(dyn Fn() + Sync)) {
    /// `GOMP_parallel` of GCC's OpenMP: a function, its argument, how many threads, flags.
    type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);
    static FOUND: OnceLock<Option<Parallel>> = OnceLock::new();

    extern "C" fn run(work: *mut c_void) {
        // SAFETY: it is the reference that is handed over below, and that call returns after all
        // threads are done.
        let work = unsafe { &**work.cast::<&(dyn Fn() + Sync)>() };
        work();
    }

    let find = || {
        // SAFETY: the symbol, where there is one, is this function: its name belongs to GCC's
        // OpenMP.
        unsafe { Library::this().get::<Parallel>(b"GOMP_parallel\0").ok().map(|symbol| *symbol) }
    };
    match FOUND.get_or_init(find) {
        Some(parallel) => {
            let mut work = work;
            // SAFETY: `run` reads the reference that it is given and may run on any thread, as
            // `work` is `Sync`.
            unsafe { parallel(run, (&raw mut work).cast(), threads as c_uint, 0) };
        }
        None => thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        }),
    }
}

/// Nothing in this file leaves what a lock guards half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once() {
        let _alone = Alone::here();
        for items in [0, 1, 2, 7, 1000] {
            let done: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
            let count = |item: usize, (): &mut ()| {
                done[item].fetch_add(1, Ordering::SeqCst);
            };
            in_turn(0..items, || (), count);
            assert!(done.iter().all(|times| times.load(Ordering::SeqCst) == 1), "{items}");
        }
    }

    #[test]
    fn what_is_made_comes_in_the_order_of_the_items_whichever_is_done_first() {
        let _alone = Alone::here();
        let make = |item: u64| {
            thread::sleep(Duration::from_millis((item * 7) % 5));
            item * item
        };
        assert_eq!(
            each((0..40).collect(), make),
            (0..40).map(|item| item * item).collect::<Vec<_>>()
        );
    }

    #[test]
    fn pieces_of_what_is_made_in_order_are_shared_out_too() {
        let _alone = Alone::here();
        let make = |item: usize| {
            let sum = AtomicUsize::new(0);
            let add = |piece: usize, (): &mut ()| {
                sum.fetch_add(item * piece, Ordering::SeqCst);
            };
            in_turn(0..50, || (), add);
            sum.into_inner()
        };
        assert_eq!(
            each((0..9).collect(), make),
            (0..9).map(|item| item * 1225).collect::<Vec<_>>()
        );
    }

    #[test]
    fn whoever_takes_may_stop_and_nothing_more_comes() {
        let _alone = Alone::here();
        let mut taken = Vec::new();
        let stopped = in_order(
            (0..100).collect(),
            |item: usize| item,
            |item| {
                taken.push(item);
                (item < 3).then_some(())
            },
        );
        assert!(stopped.is_none());
        assert_eq!(taken, [0, 1, 2, 3]);
    }

    #[test]
    fn a_panic_of_a_helper_is_the_publishers_and_the_pool_goes_on() {
        let _alone = Alone::here();
        for _ in 0..3 {
            let failing = || each((0..8).collect(), |item: usize| assert!(item != 5, "item five"));
            let panic = catch_unwind(failing).expect_err("an item fails");
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            assert!(text.is_some_and(|text| text.contains("item five")));
            let in_pieces = || {
                in_turn(0..64, || (), |item: usize, ()| assert!(item != 40, "item forty"));
            };
            assert!(catch_unwind(in_pieces).is_err());
        }
        assert_eq!(each(vec![1, 2, 3], |item| item + 1), [2, 3, 4]);
    }

    #[test]
    fn several_threads_may_publish_at_once() {
        thread::scope(|scope| {
            for offset in 0..4 {
                scope.spawn(move || {
                    let _alone = Alone::here();
                    for _ in 0..20 {
                        let made = each((0..10).collect(), |item: usize| item + offset);
                        assert_eq!(made, (offset..10 + offset).collect::<Vec<_>>());
                    }
                });
            }
        });
    }

    #[test]
    fn libtorch_has_its_threads_again_afterwards() {
        let before = of_libtorch();
        {
            let _alone = Alone::here();
            assert_eq!(of_libtorch(), 1);
        }
        assert_eq!(of_libtorch(), before);
    }
}
