import DemoGuest
import Foundation
import Glibc

/// The serial port of one QEMU: everything that the guest has written there, with its time.
public final class GuestSerial: Sendable {
  /// Bytes that were read together.
  struct Piece: Sendable {
    let time: MonotonicTime
    let bytes: [UInt8]
  }

  fileprivate struct State {
    var pieces: [Piece] = []
    var reader = GuestLineReader()
    var tickCount = 0
    var lastTick: (count: UInt32, time: MonotonicTime)?
    var isClosed = false
  }

  private let descriptor: Int32
  private let state = Guarded(State())
  private let readerEnded = Guarded(false)

  /// Takes over a connected descriptor.
  init(descriptor: Int32) {
    self.descriptor = descriptor
    let (state, readerEnded) = (state, readerEnded)
    let thread = Thread {
      var waited = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      while poll(&waited, 1, -1) >= 0 || errno == EINTR {
        if state.withLock({ $0.readEverything(from: descriptor) }) { break }
      }
      readerEnded.withLock { $0 = true }
    }
    thread.stackSize = 1 << 18
    thread.start()
  }

  deinit {
    shutdown(descriptor, Int32(SHUT_RDWR))
    _ = readerEnded.wait(upTo: .seconds(60)) { $0 ? true : nil }
    Glibc.close(descriptor)
  }

  /// Gives the guest a command, which it obeys at its next tick.
  public func send(_ command: GuestCommand) throws {
    var byte = command.rawValue
    guard Glibc.send(descriptor, &byte, 1, Int32(MSG_NOSIGNAL)) == 1 else {
      throw HarnessError.system("send to the serial port", code: errno)
    }
  }

  /// How many ticks this side has written up to now.
  public var tickCount: Int {
    state.withLock { state in
      _ = state.readEverything(from: descriptor)
      return state.tickCount
    }
  }

  /// The last tick that this side has written up to now.
  public var lastTick: (count: UInt32, time: MonotonicTime)? {
    state.withLock { state in
      _ = state.readEverything(from: descriptor)
      return state.lastTick
    }
  }

  /// Waits until this side has written so many ticks in all; false when it does not in time.
  public func waitForTicks(_ count: Int, upTo limit: Duration) -> Bool {
    state.wait(upTo: limit) { $0.tickCount >= count ? true : nil } ?? false
  }

  /// Waits for a line that this side writes, in the past or within the limit.
  public func waitForLine(upTo limit: Duration, where matches: (GuestLine) -> Bool) -> Bool {
    var seen = 0
    var reader = GuestLineReader()
    return state.wait(upTo: limit) { state in
      defer { seen = state.pieces.count }
      for piece in state.pieces.dropFirst(seen) {
        // The rest of the piece is read too, for the reader must see every byte once.
        if reader.read(piece.bytes).contains(where: matches) { return true }
      }
      return state.isClosed ? false : nil
    } ?? false
  }

  /// Every whole line that this side has written up to now.
  public var lines: [GuestLine] {
    var reader = GuestLineReader()
    return pieces.flatMap { reader.read($0.bytes) }
  }

  /// Everything that this side has written up to now.
  var pieces: [Piece] {
    state.withLock { state in
      _ = state.readEverything(from: descriptor)
      return state.pieces
    }
  }
}

extension GuestSerial.State {
  /// Reads whatever is there without waiting; true at the connection's end.
  fileprivate mutating func readEverything(from descriptor: Int32) -> Bool {
    var buffer = [UInt8](repeating: 0, count: 1 << 12)
    while !isClosed {
      let count = buffer.withUnsafeMutableBytes {
        recv(descriptor, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT))
      }
      if count < 0, errno == EAGAIN || errno == EINTR { return false }
      guard count > 0 else {
        isClosed = true
        break
      }
      let piece = GuestSerial.Piece(time: .now, bytes: Array(buffer[..<count]))
      pieces.append(piece)
      for case .tick(let number) in reader.read(piece.bytes) {
        tickCount += 1
        lastTick = (number, piece.time)
      }
    }
    return true
  }
}
