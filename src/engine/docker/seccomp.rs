//! The system calls that a container of ours may make: a list of our own, so that it is the same on every engine.
//!
//! The engine's own list is made for all that runs in containers, and differs from version to version. An HTTP API in
//! Python needs less: no sockets to the hypervisor (`AF_VSOCK`, which knows no network namespaces), to the kernel's
//! ciphers or to raw packets, no `io_uring`, no looking into other processes, no files that are only in memory and can
//! be run from there in spite of `noexec`. Names are those of the kernel's tables; one that an architecture does not
//! have is left out by the engine. What is not named is refused with EPERM.

use serde_json::{Value, json};

/// Files, folders and what is known of them.
const FILES: &str = "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 \
    faccessat faccessat2 fadvise64 fadvise64_64 arm_fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown \
    fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 \
    fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32 lgetxattr link linkat \
    listxattr llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat newfstatat \
    open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv \
    removexattr rename renameat renameat2 rmdir sendfile sendfile64 setxattr splice stat stat64 statfs statfs64 statx \
    symlink symlinkat sync sync_file_range sync_file_range2 arm_sync_file_range syncfs tee truncate truncate64 umask \
    unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev";

/// Waiting, pipes, clocks and signals.
const WAITING: &str = "alarm clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
    clock_nanosleep_time64 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
    epoll_wait_old eventfd eventfd2 getitimer gettimeofday io_cancel io_destroy io_getevents io_pgetevents \
    io_pgetevents_time64 io_setup io_submit kill nanosleep _newselect pause pipe pipe2 poll ppoll ppoll_time64 \
    pselect6 pselect6_time64 restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo select setitimer sigaltstack signalfd \
    signalfd4 sigprocmask sigreturn tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
    timerfd_settime64 times tkill";

/// Memory, and what processes share.
const MEMORY: &str = "brk cacheflush futex futex_time64 futex_waitv get_robust_list madvise membarrier mincore mlock \
    mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 \
    mq_timedsend mq_timedsend_time64 mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap \
    pkey_alloc pkey_free pkey_mprotect remap_file_pages riscv_flush_icache semctl semget semop semtimedop \
    semtimedop_time64 set_robust_list shmat shmctl shmdt shmget";

/// Processes, threads, users and limits.
const PROCESSES: &str = "arch_prctl capget capset execve execveat exit exit_group fork get_thread_area getcpu getegid \
    getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority \
    getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get \
    ioprio_set landlock_add_rule landlock_create_ruleset landlock_restrict_self pidfd_open pidfd_send_signal prctl \
    prlimit64 rseq sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr \
    sched_setparam sched_setscheduler sched_yield seccomp set_thread_area set_tid_address set_tls setfsgid setfsgid32 \
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid setregid32 setresgid \
    setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setuid setuid32 sysinfo ugetrlimit uname \
    vfork wait4 waitid waitpid";

/// Sockets, once they are there.
const SOCKETS: &str = "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg \
    recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketpair";

/// The families of which a socket may be: local, IPv4, IPv6, and netlink, which asks the kernel for interfaces.
const FAMILIES: [u32; 4] = [1, 2, 10, 16];

/// The flags by which `clone` makes namespaces (`CLONE_NEW…` in `linux/sched.h`), all but time's, which shares its bit
/// with the signal.
const NAMESPACES: u32 = 0x7e02_0000;

/// "Not implemented": the C library then takes `clone`, whose flags can be seen, where those of `clone3` cannot.
const ENOSYS: u32 = 38;

/// The list as the engine's API takes it, among a container's security options.
pub(super) fn option() -> String {
    let plain: Vec<&str> =
        [FILES, WAITING, MEMORY, PROCESSES, SOCKETS].into_iter().flat_map(str::split_whitespace).collect();
    let mut calls = vec![
        json!({ "names": plain, "action": "SCMP_ACT_ALLOW" }),
        json!({ "names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
            { "index": 0, "value": NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" },
        ] }),
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }),
        json!({ "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [equal(0)] }),
        // Asks which it is, without changing it.
        json!({ "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [equal(u32::MAX)] }),
    ];
    calls.extend(
        FAMILIES.map(|family| json!({ "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [equal(family)] })),
    );
    // No architecture but the host's own, so that the tables of another are no way around this one.
    format!("seccomp={}", json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": calls }))
}

fn equal(value: u32) -> Value {
    json!({ "index": 0, "value": value, "op": "SCMP_CMP_EQ" })
}
