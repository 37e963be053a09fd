import Glibc
import Testing

/// A terminal whose user is the test.
final class Terminal {
  /// What a program opens.
  let path: String
  private let controller: Int32
  /// Held open, so that the terminal outlives the program that uses it.
  private let device: Int32
  private var text: [UInt8] = []

  init() throws {
    var (controller, device): (Int32, Int32) = (-1, -1)
    try #require(openpty(&controller, &device, nil, nil, nil) == 0)
    (self.controller, self.device) = (controller, device)
    path = String(cString: try #require(ttyname(device)))
    _ = fcntl(controller, F_SETFL, O_NONBLOCK)
  }

  deinit {
    close(device)
    close(controller)
  }

  /// Everything that has been written to the terminal so far.
  func read() -> String {
    var buffer = [UInt8](repeating: 0, count: 1 << 12)
    while true {
      let count = buffer.withUnsafeMutableBytes {
        Glibc.read(controller, $0.baseAddress, $0.count)
      }
      guard count > 0 else { return String(decoding: text, as: UTF8.self) }
      text += buffer.prefix(count)
    }
  }

  /// As the user's Ctrl-S does.
  func stopOutput() { tcflow(device, Int32(TCOOFF)) }

  /// As the user's Ctrl-Q does.
  func resumeOutput() { tcflow(device, Int32(TCOON)) }
}
