//! Results and their pictures.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Deserialize;
use utoipa::IntoParams;
use var_dd_protocol::{
    ErrorBody, JobId, JobView, PARAMETERS_KEYWORD, PictureParameters, ResultPage, with_texts,
};

use super::{
    Site,
    body::{Caching, answer, json},
    enlarged::{Enlarged, Pixels},
    error::ApiError,
    export,
    jobs::owner_token,
};

/// Results in one page where the request does not say.
const PAGE: u32 = 24;

/// Which of the recent results.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RecentQuery {
    /// Most results in the answer; 24 if absent.
    #[param(minimum = 1, maximum = 100, default = 24)]
    limit: Option<u32>,
    /// `next` of an earlier page.
    before: Option<String>,
}

/// Recent results, newest first.
#[utoipa::path(
    get,
    path = "/api/results",
    tag = "results",
    params(RecentQuery),
    responses(
        (status = 200, description = "A page of results without their frames", body = ResultPage),
        (
            status = 400,
            description = "Not a number from 1 to 100, or not a `next` of an earlier page",
            body = ErrorBody
        ),
    )
)]
pub(super) async fn recent(
    request: HttpRequest,
    query: web::Query<RecentQuery>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let limit = query.limit.unwrap_or(PAGE);
    let page = site.scheduler.recent(limit, query.before.as_deref()).await?;
    json(&request, Caching::Ask, &page)
}

/// A job or result as a whole, also while it waits or runs.
#[utoipa::path(
    get,
    path = "/api/results/{id}",
    tag = "results",
    params(("id" = JobId, Path, description = "Name of the result")),
    responses(
        (status = 200, description = "State, request, frames and pictures", body = JobView),
        (status = 304, description = "As the client has it"),
        (status = 404, description = "No such result (any more)", body = ErrorBody),
    )
)]
pub(super) async fn view(
    request: HttpRequest,
    id: web::Path<JobId>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let view = site.scheduler.view(&id).await?;
    // A result can be deleted, so it is asked about; a job changes all the time.
    let caching = if view.state.is_final() { Caching::Ask } else { Caching::Never };
    json(&request, caching, &view)
}

/// Deletes a result with its pictures: its owner only.
#[utoipa::path(
    delete,
    path = "/api/results/{id}",
    tag = "results",
    params(("id" = JobId, Path, description = "Name of the result")),
    security(("owner_token" = [])),
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, description = "No owner's token", body = ErrorBody),
        (
            status = 403,
            description = "Wrong owner's token, host or origin refused",
            body = ErrorBody
        ),
        (status = 404, description = "No such result (any more)", body = ErrorBody),
        (status = 409, description = "It has not ended", body = ErrorBody),
    )
)]
pub(super) async fn delete(
    request: HttpRequest,
    id: web::Path<JobId>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    site.scheduler.delete(&id, &owner_token(&request)?).await?;
    site.exports.forget(&id);
    Ok(HttpResponse::NoContent().finish())
}

/// One frame as it was streamed.
#[utoipa::path(
    get,
    path = "/api/results/{id}/frames/{seq}",
    tag = "results",
    params(
        ("id" = JobId, Path, description = "Name of the result"),
        ("seq" = u64, Path, description = "Sequence number of the frame"),
    ),
    responses(
        (status = 200, description = "The encoded picture", content(
            (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "image/jpeg"))),
        (status = 304, description = "As the client has it"),
        (status = 404, description = "No such frame (any more)", body = ErrorBody),
    )
)]
pub(super) async fn frame(
    request: HttpRequest,
    path: web::Path<(JobId, u64)>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let (id, seq) = path.into_inner();
    let (media_type, bytes) = site.scheduler.frame(&id, seq).await?;
    let caching = caching_of_pictures(&site, &id).await?;
    Ok(answer(&request, media_type.as_str(), caching, bytes))
}

/// Pictures of a result never change. Those of a job may, if the server is killed and draws it
/// again.
async fn caching_of_pictures(site: &Site, id: &JobId) -> Result<Caching, ApiError> {
    let ended = site.scheduler.view(id).await?.state.is_final();
    Ok(if ended { Caching::Immutable } else { Caching::Never })
}

/// How a picture is to be sent.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PictureQuery {
    /// Present, whatever its value: as a file to keep, with its parameters as text inside.
    download: Option<String>,
    /// `no`: leave the parameters out of a download.
    parameters: Option<String>,
    /// How many times as large as it was drawn: from 1 to 8, up to a side of 1024 pixels; 1 if
    /// absent.
    #[param(minimum = 1, maximum = 8, default = 1)]
    scale: Option<u32>,
    /// How the pixels of an enlarged picture look; crisp if absent.
    #[param(inline)]
    pixels: Option<Pixels>,
}

/// A finished picture.
#[utoipa::path(
    get,
    path = "/api/results/{id}/pictures/{picture}.png",
    tag = "results",
    params(
        ("id" = JobId, Path, description = "Name of the result"),
        ("picture" = u32, Path, description = "Index of the picture, from 0"),
        PictureQuery,
    ),
    responses(
        (status = 200, description = "Lossless PNG; the bytes of its last frame unless downloaded \
            with parameters or enlarged",
            body = Vec<u8>, content_type = "image/png"),
        (status = 304, description = "As the client has it"),
        (status = 400, description = "Unknown query, or no such scale", body = ErrorBody),
        (status = 404, description = "No such picture (yet, or any more)", body = ErrorBody),
        (status = 413, description = "Enlarged too far", body = ErrorBody),
    )
)]
pub(super) async fn picture(
    request: HttpRequest,
    path: web::Path<(JobId, u32)>,
    query: web::Query<PictureQuery>,
    site: web::Data<Site>,
) -> Result<HttpResponse, ApiError> {
    let (id, picture) = path.into_inner();
    let mut bytes = site.scheduler.picture(&id, picture).await?;
    let PictureQuery { download, parameters: with_parameters, scale, pixels } = query.into_inner();
    let mut ending = "png".to_owned();
    if scale.is_some() || pixels.is_some() {
        let view = site.scheduler.view(&id).await?;
        let enlarged = Enlarged::of(view.image_size, scale, pixels)?;
        ending = enlarged.ending(&ending);
        if !enlarged.is_as_drawn() {
            bytes = export::enlarged(&site, bytes, enlarged).await?;
        }
    }
    if download.is_none() {
        let caching = caching_of_pictures(&site, &id).await?;
        return Ok(answer(&request, "image/png", caching, bytes));
    }
    let view = site.scheduler.view(&id).await?;
    let bytes = if with_parameters.as_deref() == Some("no") {
        bytes
    } else {
        with_texts(&bytes, &parameters(&view, picture)).into()
    };
    let disposition = format!("attachment; filename=\"{}\"", file_name(&view, picture, &ending));
    let mut response = answer(&request, "image/png", Caching::Ask, bytes);
    if let Ok(value) = header::HeaderValue::from_str(&disposition) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// The plan in words.
pub(super) fn plan_name(view: &JobView) -> String {
    let passes = view.passes.len();
    view.plan_name.clone().unwrap_or_else(|| match passes {
        1 => "1 step".to_owned(),
        _ => format!("{passes} steps"),
    })
}

/// How a picture was drawn, as texts by keyword.
pub(super) fn parameters(view: &JobView, picture: u32) -> Vec<(&'static str, String)> {
    let parameters = PictureParameters { request: view.request.clone(), picture };
    // Its maps have names for keys, so it always becomes JSON.
    let parameters = serde_json::to_string(&parameters).unwrap_or_default();
    vec![
        ("Title", view.class_name.clone()),
        ("Description", format!("{}, {}", view.class_name, plan_name(view))),
        ("Software", format!("var-dd {}", env!("CARGO_PKG_VERSION"))),
        (PARAMETERS_KEYWORD, parameters),
    ]
}

/// A name for a file of a picture: letters, digits, hyphens and underscores only.
pub(super) fn file_name(view: &JobView, picture: u32, ending: &str) -> String {
    let slug = |text: &str| {
        let mut slug = String::new();
        for c in text.chars().take(60) {
            match c.to_ascii_lowercase() {
                c if c.is_ascii_alphanumeric() => slug.push(c),
                _ if slug.ends_with('-') || slug.is_empty() => {}
                _ => slug.push('-'),
            }
        }
        slug.trim_end_matches('-').to_owned()
    };
    let class = match slug(&view.class_name) {
        name if name.is_empty() => format!("class-{}", view.request.class),
        name => name,
    };
    let seed = view.request.seed.unwrap_or_default();
    let of_several = if view.request.count > 1 { format!("_{picture}") } else { String::new() };
    format!("{class}_seed-{seed}_{}{of_several}.{ending}", slug(&plan_name(view)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(class_name: &str, count: u32) -> JobView {
        serde_json::from_value(serde_json::json!({
            "id": "0".repeat(32), "state": "finished", "class_name": class_name, "plan_name": "2 steps, fast",
            "request": { "class": 7, "seed": 42, "count": count,
                "plan": { "kind": "few_step", "t_list": [0, 3], "loss_split_t": 3 } },
            "patch_nums": [1, 2], "image_size": 64, "created_ms": 0, "passes": [], "pictures": []
        }))
        .unwrap()
    }

    #[test]
    fn a_downloaded_file_is_named_by_what_it_shows() {
        for (class_name, count, expected) in [
            ("hot-air balloon", 1, "hot-air-balloon_seed-42_2-steps-fast.png"),
            ("sea / \"../x\"; é", 1, "sea-x_seed-42_2-steps-fast.png"),
            ("雪だるま", 3, "class-7_seed-42_2-steps-fast_1.png"),
        ] {
            assert_eq!(file_name(&view(class_name, count), 1, "png"), expected);
        }
    }
}
