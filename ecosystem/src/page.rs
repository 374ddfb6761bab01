//! A page with many images for `axum_hello`, so that a browser has something to load over several connections.

/// How many images the page has.
pub const IMAGES: u32 = 24;

/// Width and height of the first image in pixels. It has 2.25 MiB.
const LARGE: (u32, u32) = (1024, 768);

/// Width and height of the others. They have 56 KiB each.
const SMALL: (u32, u32) = (160, 120);

/// Length of the two headers of a BMP file in bytes.
const HEADERS: u32 = 54;

/// The page. It says how many images the browser has, once it has them all.
pub fn html() -> String {
    let mut html = String::from(
        "<!doctype html><title>netstack</title><h1>Hello, browser!</h1>\n\
         <p id=loaded>loading\n\
         <script>onload = () => loaded.textContent =\n\
         [...document.images].filter(image => image.naturalWidth > 0).length + ' images of ' + document.images.length\n\
         </script>\n<p>",
    );
    for number in (1..IMAGES).chain([0]) {
        html += &format!("<img src=/image/{number} width=160 height=120 alt={number}>\n");
    }
    html
}

/// The image with this number, as a BMP file: a gradient of another colour for each.
pub fn image(number: u32) -> Vec<u8> {
    let (width, height) = if number == 0 { LARGE } else { SMALL };
    // Three bytes for each pixel. Rows are padded to multiples of four bytes, which those of both sizes are.
    let len = width * height * 3;
    let mut bmp = b"BM".to_vec();
    for field in [HEADERS + len, 0, HEADERS, 40, width, height, (24 << 16) | 1, 0, len, 2835, 2835, 0, 0] {
        bmp.extend(field.to_le_bytes());
    }
    let shade = |at: u32, of: u32| (at * 255 / of) as u8;
    for y in 0..height {
        for x in 0..width {
            bmp.extend([shade(number % IMAGES, IMAGES), shade(y, height), shade(x, width)]);
        }
    }
    bmp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_say_how_long_an_image_is() {
        for number in [0, 1] {
            let bmp = image(number);
            let field = |at: usize| u32::from_le_bytes(bmp[at..at + 4].try_into().unwrap()) as usize;
            assert_eq!((field(2), field(10), field(14)), (bmp.len(), 54, 40));
            assert_eq!(field(34), bmp.len() - 54);
        }
    }
}
