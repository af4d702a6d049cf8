"""A headless Chromium by its driver, and what the tests of pages share: TAP, waiting, pictures."""
import base64
import os
import shutil
import sys
import time

try:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys  # noqa: F401, for the tests
except ImportError:
    webdriver = None

count = failed = 0


def lacks():
    """What is not there for a browser, or None."""
    if webdriver is None:
        return "python3-selenium is not installed"
    for program in ("chromium", "chromedriver"):
        if not shutil.which(program):
            return program + " is not installed"
    return None


def ok(what, held, *seen):
    global count, failed
    count += 1
    failed += not held
    print(("ok %d - %s" if held else "not ok %d - %s") % (count, what), flush=True)
    if not held:
        for thing in seen:
            print("# saw: %s" % str(thing)[:600].replace("\n", "\n#   "), flush=True)


def skip(what, why):
    global count
    count += 1
    print("ok %d - %s # SKIP %s" % (count, what, why), flush=True)


def end():
    print("1..%d" % count)
    sys.exit(failed > 0)


class Browser:
    def __init__(self):
        options = Options()
        options.binary_location = shutil.which("chromium")
        for argument in ("--headless=new", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,900", "--no-first-run",
                         "--enable-unsafe-swiftshader", "--disable-dev-shm-usage", "--disable-background-networking"):
            options.add_argument(argument)
        if os.getuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=options)
        self.driver.set_page_load_timeout(120)

    def close(self):
        self.driver.quit()

    def open(self, path):
        self.complaints()
        self.driver.get("file://" + os.path.abspath(path))

    def complaints(self):
        """What the console has had since the last call, but for what a page only notes."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]

    def js(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        # innerText of what is scrolled out of sight is text, too.
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def click(self, element):
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def wait(self, condition, seconds=20):
        """Whether it came true; a condition that throws is not true yet."""
        end_at = time.monotonic() + seconds
        while time.monotonic() < end_at:
            try:
                if condition():
                    return True
            except Exception:  # what is waited for may not be there to be asked
                pass
            time.sleep(0.05)
        return False

    def scheme(self, name, media=""):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "media": media, "features": [{"name": "prefers-color-scheme", "value": name}]})

    def width(self, pixels):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": False})
        time.sleep(0.4)  # the page waits that long for the last of many changes

    def pdf(self):
        return base64.b64decode(self.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])

    def picture(self, path):
        """All of the page, for people."""
        size = self.js("return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": {
            "x": 0, "y": 0, "width": size[0], "height": min(size[1], 16000), "scale": 1}})
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))
