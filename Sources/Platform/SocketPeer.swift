import CPlatform
import Glibc

/// What is known about whether a process still exists.
public enum Liveness: Equatable, Sendable {
  /// It has ended and can never act again: a proof.
  case exited
  /// It exists.
  case alive
  /// Neither can be shown.
  case unknown
}

/// A process by number and start time: the number alone may be given out again.
public struct ProcessIdentity: Equatable, Sendable {
  public let processIdentifier: Int32
  /// Clock ticks between the boot of the machine and the start of the process.
  public let startTime: UInt64

  public init(processIdentifier: Int32, startTime: UInt64) {
    self.processIdentifier = processIdentifier
    self.startTime = startTime
  }

  /// Whether the process still exists, for a holder that kept only its identity.
  ///
  /// Under the same number another process may run by now (or, across a reboot or a container's
  /// border, numbers may mean something else): that is `unknown`, not a proof.
  public func liveness() -> Liveness {
    let value = result(of: .pidfdOpen) { swp_pidfd_open(processIdentifier) }
    if value == -Int(ESRCH) { return .exited }
    guard value >= 0 else { return .unknown }
    let pidfd = Descriptor(owning: Int32(value))
    guard ProcessStatus(of: processIdentifier)?.startTime == startTime else { return .unknown }
    return livenessBehind(pidfd)
  }
}

/// The process at the other end of a unix socket, with a proof of its exit where the kernel has one.
public final class SocketPeer {
  public let credentials: PeerCredentials
  /// Number and start time; nil where they cannot be read.
  public let identity: ProcessIdentity?
  /// The file name of the program, without its directory; nil where it cannot be read.
  public let executableName: String?
  /// Readable once the process has ended; nil where the kernel gave none. For watching only.
  public let exitDescriptor: Descriptor?

  /// Looks at the peer of a connected unix socket; nil when it has none that can be named (a TCP
  /// connection, another pid namespace, a process that is gone already).
  ///
  /// For a connection that we made, the peer is the process that called `listen`.
  public init?(of socket: Descriptor) {
    guard let credentials = try? PeerCredentials(of: socket), credentials.processIdentifier > 0
    else { return nil }
    let pid = credentials.processIdentifier
    let pidfd = Self.exitDescriptor(of: socket, pid: pid)
    let status = ProcessStatus(of: pid)
    let name = Self.executableName(of: pid)
    // What was read by number belongs to the peer only if that still lived afterwards.
    if let pidfd, livenessBehind(pidfd) == .alive, let status {
      identity = ProcessIdentity(processIdentifier: pid, startTime: status.startTime)
      executableName = name
    } else {
      identity = nil
      executableName = nil
    }
    self.credentials = credentials
    exitDescriptor = pidfd
  }

  /// Whether the program is a QEMU: its file name starts with `qemu` or is `kvm`.
  ///
  /// False also where the name cannot be read. Somebody else at the socket (a proxy, a relay)
  /// proves nothing about the guest by exiting.
  public var isQEMU: Bool {
    Self.isQEMU(executableName: executableName)
  }

  static func isQEMU(executableName: String?) -> Bool {
    executableName.map { $0.hasPrefix("qemu") || $0 == "kvm" } ?? false
  }

  /// Whether the process has ended.
  public func liveness() -> Liveness { exitDescriptor.map(livenessBehind) ?? .unknown }

  /// Whether the process has ended, or does nothing any more but end.
  ///
  /// The kernel marks all of a process's threads before it closes what they share. So a stream that is
  /// found at its end while its peer is not marked was closed by a process that lives on.
  public var isEnding: Bool {
    switch liveness() {
    case .exited: return true
    case .unknown: return false
    case .alive:
      guard let identity, let status = ProcessStatus(of: identity.processIdentifier) else {
        return liveness() == .exited
      }
      return status.startTime == identity.startTime ? status.isExiting : liveness() == .exited
    }
  }

  private static func exitDescriptor(of socket: Descriptor, pid: Int32) -> Descriptor? {
    let direct = result(of: .getSocketOption) { swp_peer_pidfd(socket.number) }
    if direct >= 0 { return Descriptor(owning: Int32(direct)) }
    // Older kernels: by number. Another process may have got it since, which then merely is not
    // seen to exit.
    guard direct == -Int(ENOPROTOOPT) else { return nil }
    return try? .made(by: .pidfdOpen) { swp_pidfd_open(pid) }
  }

  static func executableName(of pid: Int32) -> String? {
    var bytes = [CChar](repeating: 0, count: 4096)
    let length = result(of: .readLink) { readlink("/proc/\(pid)/exe", &bytes, bytes.count) }
    guard length > 0 else { return nil }
    let path = String(decoding: bytes[..<length].map(UInt8.init(bitPattern:)), as: UTF8.self)
    return path.split(separator: "/").last.map(String.init)
  }
}

/// Whether the process behind a pidfd has ended.
func livenessBehind(_ pidfd: Descriptor) -> Liveness {
  switch result(of: .pidfdPoll, { swp_pidfd_ended(pidfd.number) }) {
  case 0: .alive
  case 1: .exited
  default: .unknown
  }
}

/// What `/proc/PID/stat` says of a process.
struct ProcessStatus: Equatable {
  let parent: Int32
  /// It does nothing any more but end.
  let isExiting: Bool
  let startTime: UInt64

  /// PF_EXITING of Linux's `sched.h`: it has kept this value, as what reads the file relies on it.
  private static let exiting: UInt64 = 0x4

  init?(of pid: Int32) {
    guard
      let file = try? Descriptor.made(
        by: .open, { open("/proc/\(pid)/stat", O_RDONLY | O_CLOEXEC) })
    else { return nil }
    let line = withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { buffer -> String in
      let count = result(of: .read) { read(file.number, buffer.baseAddress, buffer.count) }
      return String(
        decoding: UnsafeRawBufferPointer(rebasing: buffer[..<max(count, 0)]), as: UTF8.self)
    }
    self.init(line: line)
  }

  /// Reads the line's fields 4, 9 and 22; the name in field 2 may hold blanks and parentheses.
  init?(line: String) {
    guard let end = line.lastIndex(of: ")") else { return nil }
    let fields = line[line.index(after: end)...].split(separator: " ")
    guard fields.count > 19, let parent = Int32(fields[1]), let flags = UInt64(fields[6]),
      let startTime = UInt64(fields[19])
    else { return nil }
    self.parent = parent
    isExiting = flags & Self.exiting != 0
    self.startTime = startTime
  }
}
