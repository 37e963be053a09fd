import CPlatform
import Glibc
import Testing

@testable import Platform

/// Everything here runs one test at a time: descriptors and children are the whole process's.
@Suite(.serialized) struct PlatformTests {}

/// A directory that goes away with its owner.
final class TemporaryDirectory {
  let path: String

  init() {
    var template = Array("/tmp/platform-tests-XXXXXX".utf8CString)
    path = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
  }

  deinit {
    let child = try? ChildProcess(arguments: ["rm", "-rf", path])
    if let child { _ = waitForEnd(of: child) }
  }
}

/// Waits for a child's end, for at most 20 s.
func waitForEnd(of child: ChildProcess) -> ChildStatus {
  let end = MonotonicClock.now + 20_000_000_000
  while MonotonicClock.now < end {
    let status = child.reap()
    if status != .running { return status }
    var entry = pollfd(fd: child.exitDescriptor?.number ?? -1, events: Int16(POLLIN), revents: 0)
    poll(&entry, 1, 100)
  }
  return .running
}

/// Runs `body` in a forked child, which is alone with its descriptors and signals, and returns what
/// it returned.
///
/// A fork of a process with threads may inherit a lock that another thread held. Such a child ends
/// by its alarm, and the fork is repeated.
func inFork(_ body: () throws -> Int32) -> Int32 {
  for _ in 0..<5 {
    let pid = fork()
    if pid == 0 {
      // The test runner's threads block what a program's only thread would get.
      var none = sigset_t()
      sigemptyset(&none)
      sigprocmask(SIG_SETMASK, &none, nil)
      signal(SIGALRM, SIG_DFL)
      alarm(20)
      _exit((try? body()) ?? 111)
    }
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    if status & 0x7F == 0 { return (status >> 8) & 0xFF }
    if status & 0x7F != SIGALRM { return -(status & 0x7F) }
  }
  return -SIGALRM
}

/// The open descriptors of this process.
func openDescriptors() -> Set<Int32> {
  guard let stream = opendir("/proc/self/fd") else { return [] }
  defer { closedir(stream) }
  var numbers: Set<Int32> = []
  while let entry = readdir(stream) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) { field in
      field.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
    }
    if let number = Int32(name), number != dirfd(stream) { numbers.insert(number) }
  }
  return numbers
}

/// A connected pair of stream sockets.
func socketPair() throws -> (Descriptor, Descriptor) {
  var numbers: [Int32] = [-1, -1]
  let made = socketpair(
    AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &numbers)
  try #require(made == 0)
  return (Descriptor(owning: numbers[0]), Descriptor(owning: numbers[1]))
}

func send(_ text: String, to descriptor: Descriptor) throws -> Transfer {
  try Array(text.utf8).withUnsafeBytes { try StreamSocket.send($0, to: descriptor) }
}

func receive(_ descriptor: Descriptor, limit: Int = 4096) throws -> (Transfer, [UInt8]) {
  var buffer = [UInt8](repeating: 0, count: limit)
  let transfer = try buffer.withUnsafeMutableBytes {
    try StreamSocket.receive(descriptor, into: $0)
  }
  if case .moved(let count) = transfer { return (transfer, Array(buffer.prefix(count))) }
  return (transfer, [])
}

func isReadable(_ number: Int32, withinMilliseconds timeout: Int32 = 0) -> Bool {
  var entry = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
  return poll(&entry, 1, timeout) == 1 && entry.revents & Int16(POLLIN) != 0
}

func isClosedOnExec(_ number: Int32) -> Bool { fcntl(number, F_GETFD) & FD_CLOEXEC != 0 }

/// The error that `body` throws; nil when it does not.
func failure(_ body: () throws -> Void) -> SystemError? {
  do {
    try body()
    return nil
  } catch {
    return error as? SystemError
  }
}
