import Glibc

/// Writes everything, waiting where it has to; false where nobody takes it.
@discardableResult
func writeAll(_ text: String, to descriptor: Int32) -> Bool {
  var rest = Array(text.utf8)[...]
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    if count > 0 {
      rest = rest.dropFirst(count)
    } else if errno == EAGAIN {
      _ = waitForDescriptors([(descriptor, Int16(POLLOUT))], timeoutMilliseconds: -1)
    } else if errno != EINTR {
      return false
    }
  }
  return true
}

/// One of the two standard streams, which never holds up a migration.
///
/// A terminal stopped by Ctrl-S or a reader that does not read would block a plain write, and with
/// it the grant. So text waits here while its reader is slow, and what may be left out is left out.
final class Output {
  /// Most bytes written at once: less than what the kernel takes from a descriptor that is writable.
  private static let chunk = 512
  /// While more than this waits, progress is left out.
  static let progressLimit = 1 << 16

  let descriptor: Int32
  private var pending: [UInt8] = []
  /// The status line that stands on the terminal now.
  private var status = ""
  private var isClosed = false

  init(_ descriptor: Int32) {
    self.descriptor = descriptor
  }

  /// Whether text waits for the descriptor to become writable.
  var isWaiting: Bool { !pending.isEmpty && !isClosed }

  /// Writes a line, above the status line.
  func line(_ text: String) {
    let standing = status
    put((standing.isEmpty ? "" : "\r\u{1b}[K") + text + "\n" + standing)
  }

  /// Writes a line unless the reader is slow.
  func progressLine(_ text: String) {
    if pending.count < Self.progressLimit { line(text) }
  }

  /// Draws the line at the bottom of the terminal again; empty takes it away.
  func status(_ text: String) {
    guard text != status else { return }
    // One drawing that waits is enough, but what stands there must be taken away in the end.
    if !pending.isEmpty, !text.isEmpty { return }
    status = text
    put("\r\u{1b}[K" + text)
  }

  /// Writes what can be written without waiting.
  func flush() {
    while isWaiting {
      let ready = waitForDescriptors([(descriptor, Int16(POLLOUT))], timeoutMilliseconds: 0)
      guard ready.first == true else { return }
      let count = pending.prefix(Self.chunk).withUnsafeBytes {
        write(descriptor, $0.baseAddress, $0.count)
      }
      if count > 0 {
        pending.removeFirst(count)
      } else if errno == EAGAIN {
        return
      } else if errno != EINTR {
        isClosed = true
      }
    }
  }

  /// Writes everything, waiting where it has to.
  func drain() {
    guard isWaiting else { return }
    writeAll(String(decoding: pending, as: UTF8.self), to: descriptor)
    pending = []
  }

  private func put(_ text: String) {
    guard !isClosed else { return }
    pending += text.utf8
    flush()
  }
}

/// Both standard streams.
final class Outputs {
  let result = Output(STDOUT_FILENO)
  let remark = Output(STDERR_FILENO)

  func say(_ utterances: [Utterance]) {
    for utterance in utterances {
      switch utterance {
      case .result(let text): result.line(text)
      case .progress(let text): result.progressLine(text)
      case .remark(let text): remark.line(text)
      case .status(let text): remark.status(text)
      }
    }
  }

  var waiting: [Output] { [result, remark].filter(\.isWaiting) }

  func drain() {
    result.drain()
    remark.drain()
  }
}
