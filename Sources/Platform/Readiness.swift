import CPlatform
import Glibc

/// What a descriptor is watched for.
///
/// Errors and hang-ups are always reported, whatever the interest: a stream of which nothing more
/// is wanted has to be removed, else it keeps the loop awake.
public struct Interest: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static let readable = Interest(rawValue: 0x1)
  public static let writable = Interest(rawValue: 0x4)
}

/// What a watched descriptor turned out to be.
public struct ReadyFlags: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static let readable = ReadyFlags(rawValue: 0x1)
  public static let writable = ReadyFlags(rawValue: 0x4)
  /// An error is pending; the next receive or send reports it.
  public static let failed = ReadyFlags(rawValue: 0x8)
  /// The peer has gone; there may still be something to read.
  public static let hungUp = ReadyFlags(rawValue: 0x10)
}

/// One entry of the last wait.
public struct ReadyEntry: Equatable, Sendable {
  /// The number that the descriptor was added with.
  public let token: UInt64
  public let flags: ReadyFlags
}

/// How a wait ended.
public enum WaitOutcome: Equatable, Sendable {
  /// So many entries are there, none when the time was up or only timer or signal were due.
  case ready(Int)
  /// A signal handler of the host program ran; the deadline is the caller's business.
  case interrupted
}

/// Any number of descriptors, one timer and one signal behind a single descriptor.
///
/// `descriptor` may itself be watched by a foreign loop (level-triggered): it is readable exactly
/// while a watched descriptor is ready, the timer is due, or the signal is set. Nothing here
/// allocates after `init`.
///
/// After fork, the child shares everything here with its parent: it may only close.
public final class Readiness {
  /// The most entries that one wait reports; the others are reported by the next one.
  public static let entriesPerWait = 256

  /// Tokens that `add` refuses, because timer and signal use them.
  private static let timerToken = UInt64.max
  private static let signalToken = UInt64.max - 1

  /// Whether the timer was due at the last wait.
  public private(set) var timerIsDue = false
  /// Whether the signal is set.
  public private(set) var isSignalled = false

  private let epoll: Descriptor
  private let timer: Descriptor
  private let event: Descriptor
  private let entries: UnsafeMutablePointer<swp_ready>
  private var entryCount = 0
  private var armed: Int64?

  public init() throws(SystemError) {
    epoll = try .made(by: .epollCreate) { swp_epoll_create() }
    timer = try .made(by: .timerCreate) { swp_timer_create() }
    event = try .made(by: .eventCreate) { swp_event_create() }
    entries = .allocate(capacity: Self.entriesPerWait)
    entries.initialize(repeating: swp_ready(), count: Self.entriesPerWait)
    try control(swp_epoll_add, timer.number, .readable, Self.timerToken)
    // The event stays set: whether it counts is a matter of being watched, so that setting and
    // taking back cost one epoll_ctl and nothing is ever written or read.
    var one: UInt64 = 1
    try checked(.write) { Glibc.write(event.number, &one, 8) }
    try control(swp_epoll_add, event.number, [], Self.signalToken)
  }

  deinit { entries.deallocate() }

  /// The one descriptor to watch, or -1 once closed.
  public var descriptor: Int32 { epoll.number }

  /// Closes all three descriptors and nothing else.
  public func close() {
    epoll.close()
    timer.close()
    event.close()
  }

  /// Watches `descriptor`; `token` comes back with each of its entries.
  public func add(
    _ descriptor: Int32, _ interest: Interest, token: UInt64
  ) throws(SystemError) {
    guard token < Self.signalToken else {
      throw SystemError(errno: EINVAL, call: .epollControl)
    }
    try control(swp_epoll_add, descriptor, interest, token)
  }

  /// Changes what a watched descriptor is watched for.
  public func modify(
    _ descriptor: Int32, _ interest: Interest, token: UInt64
  ) throws(SystemError) {
    try control(swp_epoll_modify, descriptor, interest, token)
  }

  /// Stops watching; to be called before the descriptor is closed, since a copy of it in another
  /// process would keep it watched.
  public func remove(_ descriptor: Int32) throws(SystemError) {
    try control(swp_epoll_remove, descriptor, [], 0)
  }

  /// Waits for the next entries.
  ///
  /// - Parameter timeoutMilliseconds: the longest wait; 0 never waits, a negative one has no end.
  ///   A timer that is due or a set signal ends the wait as well.
  public func wait(timeoutMilliseconds: Int32) throws(SystemError) -> WaitOutcome {
    entryCount = 0
    timerIsDue = false
    let count = resultOnce(of: .epollWait) {
      swp_epoll_wait(epoll.number, entries, Int32(Self.entriesPerWait), timeoutMilliseconds)
    }
    if count == -Int(EINTR) { return .interrupted }
    if count < 0 { throw SystemError(errno: Int32(-count), call: .epollWait) }
    for index in 0..<count {
      let entry = entries[index]
      switch entry.token {
      case Self.timerToken: timerIsDue = true
      case Self.signalToken: break
      default:
        entries[entryCount] = entry
        entryCount += 1
      }
    }
    return .ready(entryCount)
  }

  /// The entry of that index of the last wait; an empty one outside of its count.
  public subscript(index: Int) -> ReadyEntry {
    guard index >= 0, index < entryCount else { return ReadyEntry(token: 0, flags: []) }
    let entry = entries[index]
    return ReadyEntry(token: entry.token, flags: ReadyFlags(rawValue: entry.events))
  }

  /// Sets the timer to an absolute instant of `MonotonicClock`, or stops it.
  ///
  /// A due timer keeps the descriptor readable until another instant is set. An unchanged instant
  /// costs no system call.
  public func setTimer(_ instant: Int64?) throws(SystemError) {
    guard instant != armed else { return }
    // Zero would stop the timer: an instant long past is due at once.
    let value = instant.map { max($0, 1) } ?? 0
    try checked(.timerSet) { swp_timer_set(timer.number, value) }
    armed = instant
  }

  /// Makes the descriptor readable, or takes that back; an unchanged value costs no system call.
  public func setSignalled(_ signalled: Bool) throws(SystemError) {
    guard signalled != isSignalled else { return }
    try control(swp_epoll_modify, event.number, signalled ? .readable : [], Self.signalToken)
    isSignalled = signalled
  }

  private func control(
    _ operation: some BinaryInteger, _ descriptor: Int32, _ interest: Interest, _ token: UInt64
  ) throws(SystemError) {
    try checked(.epollControl) {
      swp_epoll_control(epoll.number, Int32(operation), descriptor, interest.rawValue, token)
    }
  }
}
