import CPlatform
import Glibc

/// A system call that failed, and why.
public struct SystemError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The error number as `errno` has it.
  public let errno: Int32
  /// The call that failed.
  public let call: SystemCall

  public init(errno: Int32, call: SystemCall) {
    self.errno = errno
    self.call = call
  }

  /// The error's symbolic name, such as `ENOENT`; `E` and the number where there is none.
  public var name: String { swp_errno_name(errno).map(String.init(cString:)) ?? "E\(errno)" }

  /// The error's English sentence, the same in every locale.
  public var text: String {
    swp_errno_text(errno).map(String.init(cString:)) ?? "unknown error \(errno)"
  }

  public var description: String { "\(call.name): \(text) (\(name))" }
}

/// The system calls of this module, named as their manual pages are.
public enum SystemCall: Int32, CaseIterable, Sendable {
  case accept, bind, connect, duplicate, epollControl, epollCreate, epollWait
  case eventCreate, fileStatus, getSocketOption, listen, lock, makeDirectory
  case memoryMap, netlink, open, pidfdOpen, pidfdPoll, pidfdReap, pidfdSignal, read, readLink,
    receive, rename
  case removeDirectory, send, setSocketOption, socket, socketPair, spawn, synchronize, timerCreate
  case timerSet, unlink, write

  /// The call's name as its manual page has it.
  public var name: String {
    switch self {
    case .accept: "accept4"
    case .duplicate: "fcntl(F_DUPFD_CLOEXEC)"
    case .epollControl: "epoll_ctl"
    case .epollCreate: "epoll_create1"
    case .epollWait: "epoll_wait"
    case .eventCreate: "eventfd"
    case .fileStatus: "fstat"
    case .getSocketOption: "getsockopt"
    case .lock: "fcntl(F_OFD_SETLK)"
    case .memoryMap: "mmap"
    case .makeDirectory: "mkdir"
    case .pidfdOpen: "pidfd_open"
    case .pidfdPoll: "poll"
    case .pidfdReap: "waitid"
    case .pidfdSignal: "pidfd_send_signal"
    case .readLink: "readlink"
    case .receive: "recv"
    case .removeDirectory: "rmdir"
    case .setSocketOption: "setsockopt"
    case .socketPair: "socketpair"
    case .spawn: "posix_spawn"
    case .synchronize: "fsync"
    case .timerCreate: "timerfd_create"
    case .timerSet: "timerfd_settime"
    case .bind, .connect, .listen, .netlink, .open, .read, .rename, .send, .socket,
      .unlink, .write:
      "\(self)"
    }
  }
}

/// Makes a call that cannot block and tries again when a signal interrupts it: a value of at least
/// zero, or the negative error number.
@inline(__always)
func result<Value: SignedInteger>(of call: SystemCall, _ body: () -> Value) -> Int {
  while true {
    let value = resultOnce(of: call, body)
    if value != -Int(EINTR) { return value }
  }
}

/// Makes a call once, for waits that must return to the caller when a signal arrives.
@inline(__always)
func resultOnce<Value: SignedInteger>(of call: SystemCall, _ body: () -> Value) -> Int {
  #if DEBUG
    if let code = FaultInjection.next(for: call) { return -Int(code) }
  #endif
  let value = body()
  return value < 0 ? -Int(Glibc.errno) : Int(value)
}

/// The same as `result(of:_:)`, with the failure thrown.
@inline(__always)
@discardableResult
func checked<Value: SignedInteger>(
  _ call: SystemCall, _ body: () -> Value
) throws(SystemError) -> Int {
  let value = result(of: call, body)
  if value < 0 { throw SystemError(errno: Int32(-value), call: call) }
  return value
}

#if DEBUG
  /// Lets a test fail the next calls of its own thread; release builds do not contain it.
  package enum FaultInjection {
    /// Fails `count` calls of `call` with `errno` inside `body`, after letting `skip` pass.
    package static func failing<Value>(
      _ call: SystemCall, errno: Int32, skip: Int32 = 0, count: Int32 = 1,
      _ body: () throws -> Value
    ) rethrows -> Value {
      guard let fault = swp_fault_of_thread() else { return try body() }
      fault.pointee = swp_fault(call: call.rawValue, code: errno, skip: skip, count: count)
      defer { fault.pointee.call = -1 }
      return try body()
    }

    static func next(for call: SystemCall) -> Int32? {
      guard let fault = swp_fault_of_thread(), fault.pointee.call == call.rawValue else {
        return nil
      }
      if fault.pointee.skip > 0 {
        fault.pointee.skip -= 1
        return nil
      }
      if fault.pointee.count == 0 { return nil }
      fault.pointee.count -= 1
      return fault.pointee.code
    }
  }
#endif
