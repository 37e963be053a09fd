import Foundation
import QEMUHarness

/// A program that runs beside the test, with its output kept.
final class Command: Sendable {
  /// How long a program may take; generous, for the machine may be loaded and valgrind slow.
  static let limit = Duration.seconds(300)

  private let words: [String]
  private let child: ChildProcess
  /// Kept for the files of the output.
  private let directory: TemporaryDirectory

  /// Starts a program, found by the search path.
  init(
    _ words: [String], environment: [String: String] = [:], in directory: TemporaryDirectory
  ) throws {
    self.words = words
    self.directory = directory
    let outputs = directory.file("output-" + UUID().uuidString)
    child = try ChildProcess(
      "/usr/bin/env", environment.map { "\($0.key)=\($0.value)" } + words,
      standardErrorPath: outputs + ".err", standardOutputPath: outputs + ".out")
  }

  var pid: pid_t { child.pid }
  var output: String { child.standardOutput }
  var errors: String { child.standardError }

  /// Sends a signal.
  func send(_ signal: Int32) { child.kill(signal: signal) }

  /// Waits for the end and returns the exit status; a death by a signal throws.
  @discardableResult
  func status() throws -> Int32 {
    guard case .exited(let status) = child.waitForExit(upTo: Self.limit) else {
      let end = child.exit.map { "\($0)" } ?? "it still runs"
      throw HarnessError("\(words): \(end); \(output) \(errors)")
    }
    return status
  }

  /// Waits for the end, which must be a success, and returns what was printed.
  @discardableResult
  func expectSuccess() throws -> String {
    let status = try status()
    guard status == 0 else {
      throw HarnessError("\(words.joined(separator: " ")): status \(status); \(output)\(errors)")
    }
    return output
  }

  /// Waits until the program has printed something, or throws at its end or at the limit's.
  func waitForOutput(_ text: String) throws {
    let deadline = MonotonicTime.now + Self.limit
    while !output.contains(text) {
      guard child.waitForExit(upTo: .milliseconds(20)) == nil, MonotonicTime.now < deadline else {
        throw HarnessError("\(words): never printed '\(text)'; \(output)\(errors)")
      }
    }
  }
}
