import Glibc

/// What a short program said, for callers that may block.
public struct ProgramOutput {
  public let output: [UInt8]
  public let error: [UInt8]
  /// `running` where the program was given up.
  public let status: ChildStatus

  /// Runs a program to its end, or gives it up when the time is over or it says too much.
  ///
  /// **Blocks**; a signal does not cut it short.
  ///
  /// - Parameters:
  ///   - arguments: as for `ChildProcess`; standard input is /dev/null.
  ///   - limit: bytes that each of its two streams may bring.
  public init(
    of arguments: [String], limit: Int, withinMilliseconds milliseconds: Int32
  ) throws(SystemError) {
    let deadline = MonotonicClock.now + Int64(milliseconds) * 1_000_000
    let (ours, theirs) = try StreamSocket.pair()
    let (oursForErrors, theirsForErrors) = try StreamSocket.pair()
    let child = try ChildProcess(
      arguments: arguments, output: theirs.number, error: theirsForErrors.number)
    theirs.close()
    theirsForErrors.close()
    var streams = [Reading(ours, limit: limit), Reading(oursForErrors, limit: limit)]
    while streams.contains(where: \.goesOn), MonotonicClock.now < deadline {
      var entries = streams.map { stream in
        pollfd(
          fd: stream.goesOn ? stream.source.number : -1, events: Int16(POLLIN), revents: 0)
      }
      let rest = (deadline - MonotonicClock.now) / 1_000_000 + 1
      _ = poll(&entries, nfds_t(entries.count), Int32(clamping: rest))
      for index in streams.indices { streams[index].read() }
    }
    let isComplete = !streams.contains { $0.goesOn || $0.bytes.count > limit }
    var found = child.reap()
    while isComplete, found == .running, MonotonicClock.now < deadline {
      var entry = pollfd(
        fd: child.exitDescriptor?.number ?? -1, events: Int16(POLLIN), revents: 0)
      _ = poll(&entry, 1, 10)
      found = child.reap()
    }
    if found == .running { child.end(withinMilliseconds: 1000) }
    output = streams[0].bytes
    error = streams[1].bytes
    status = found
  }

  private struct Reading {
    let source: Descriptor
    let limit: Int
    var bytes: [UInt8] = []
    var goesOn = true

    init(_ source: Descriptor, limit: Int) {
      self.source = source
      self.limit = limit
    }

    mutating func read() {
      while goesOn {
        var moved = Transfer.endOfStream
        let piece = withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) {
          room -> [UInt8] in
          moved = (try? StreamSocket.receive(source, into: room)) ?? .endOfStream
          guard case .moved(let count) = moved else { return [] }
          return Array(room[..<count])
        }
        bytes += piece
        switch moved {
        case .moved: if bytes.count > limit { goesOn = false }
        case .wouldBlock: return
        case .endOfStream: goesOn = false
        }
      }
    }
  }
}
